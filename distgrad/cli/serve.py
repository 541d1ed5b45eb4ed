"""`distgrad serve`"""

from __future__ import annotations

import os
from pathlib import Path

import click

from distgrad.service.foreground import serve_until_signalled
from distgrad.service.settings import MiB, ServiceSettings
from distgrad.transport.settings import TLS

from .kinds import FILE, PATH, SECONDS


@click.command()
@click.argument("targets", metavar="[NAME=]FILE.py:FUNCTION...", nargs=-1, required=True)
@click.option("--listen", metavar="HOST:PORT", default="localhost:7500", show_default=True)
@click.option(
    "--workers", type=int, default=lambda: os.cpu_count() or 1, help="Processes that run requests.  [default: cores]"
)
@click.option("--blas-threads", default=1, show_default=True, help="Threads for matrix products, in each of them.")
@click.option("--metrics", "metrics_port", type=int, metavar="PORT", help="Answer Prometheus there, on loopback.")
@click.option(
    "--um-bridge", "um_bridge_port", type=int, metavar="PORT", help="Serve UM-Bridge's HTTP protocol there as well."
)
@click.option("--tls-cert", type=FILE, help="Certificate of the server, in PEM.")
@click.option("--tls-key", type=FILE, help="Its key.")
@click.option("--tls-ca", type=FILE, help="Let in only clients with a certificate that one of these vouches for.")
@click.option("--tokens", type=FILE, help="Let in only clients with a token of this file (TOML); it may change.")
@click.option("--audit", type=PATH, help="Add a line for every refused call here.  [default: log]")
@click.option("--insecure", is_flag=True, help="Leave this machine without TLS, over a network you trust.")
@click.option("--max-request", default=1024, show_default=True, metavar="MIB", help="Arrays of one request.")
@click.option("--max-queued", default=1024, show_default=True, help="Requests that wait, of all clients.")
@click.option("--max-queued-per-client", default=256, show_default=True, help="Requests of one client.")
@click.option("--max-sessions-per-client", default=32, show_default=True, help="Linearisations kept for one client.")
@click.option(
    "--lease", type=SECONDS, default=60.0, show_default=True, metavar="SECONDS", help="They are kept so long unused."
)
@click.option(
    "--drain",
    type=SECONDS,
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="For requests under way at the end.",
)
def serve(
    targets: tuple[str, ...],
    listen: str,
    workers: int,
    blas_threads: int,
    metrics_port: int | None,
    um_bridge_port: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
    tokens: Path | None,
    audit: Path | None,
    insecure: bool,
    max_request: int,
    max_queued: int,
    max_queued_per_client: int,
    max_sessions_per_client: int,
    lease: float,
    drain: float,
) -> None:
    """Publishes functions of programs: their values and derivatives, for whoever reaches this process.

    A class is made once in each process, without arguments; its methods marked @dg.served are published as
    CLASS.METHOD.

    \b
    distgrad serve models.py:rosenbrock models.py:Heat --listen localhost:7500
    """
    tls = TLS(certificate=tls_cert, key=tls_key, authority=tls_ca) if tls_cert or tls_key or tls_ca else None
    settings = ServiceSettings(
        workers=workers,
        blas_threads=blas_threads,
        tls=tls,
        tokens=tokens,
        insecure=insecure,
        max_request_bytes=max_request * MiB,
        max_queued=max_queued,
        max_queued_per_client=max_queued_per_client,
        max_sessions_per_client=max_sessions_per_client,
        lease=lease,
        drain=drain,
    )
    serve_until_signalled(list(targets), settings, listen, metrics_port, um_bridge_port, audit, click.echo)
