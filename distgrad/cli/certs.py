"""`distgrad certs`"""

from __future__ import annotations

from pathlib import Path

import click

from distgrad.service.certificates import DAYS, make_certificates

from .kinds import PATH


@click.command()
@click.argument("folder", type=PATH)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    default=("localhost", "127.0.0.1", "::1"),
    show_default=True,
    help="Name or address at which the server is reached; may be given several times.",
)
@click.option(
    "--client",
    "clients",
    multiple=True,
    default=("client",),
    show_default=True,
    help="Name of a client; may be given several times.",
)
@click.option("--days", default=DAYS, show_default=True, help="How long they are valid.")
def certs(folder: Path, hosts: tuple[str, ...], clients: tuple[str, ...], days: int) -> None:
    """Makes certificates for development in FOLDER: an authority, a server's, and one for each client.

    \b
    distgrad serve models.py:f --listen 0.0.0.0:7500 \\
        --tls-cert FOLDER/server.pem --tls-key FOLDER/server-key.pem --tls-ca FOLDER/ca.pem
    """
    for path in make_certificates(folder, hosts, clients, days):
        click.echo(path)
