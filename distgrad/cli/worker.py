"""`distgrad worker`"""

from __future__ import annotations

from pathlib import Path

import click

from distgrad.cluster.foreground import run_worker
from distgrad.transport.settings import TransportSettings

from .options import link_options


@click.command()
@click.option("--join", "address", metavar="HOST:PORT", required=True, help="Address of the coordinator.")
@click.option(
    "--programs", type=click.Path(path_type=Path), required=True, help="The folder of programs; no other code is run."
)
@click.option("--name", default="", help="Name in the cluster.  [default: made of machine and process]")
@click.option(
    "--listen", metavar="HOST:PORT", default="", help="Where other workers reach this one.  [default: a free port]"
)
@click.option("--max-depth", default=1000, show_default=True, help="How deep calls may nest.")
@link_options
def worker(address: str, programs: Path, name: str, listen: str, max_depth: int, settings: TransportSettings) -> None:
    """Runs a worker of a cluster until Ctrl-C, or until its coordinator is gone."""
    run_worker(settings, address, programs, name, listen, max_depth, click.echo)
