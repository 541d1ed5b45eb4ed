"""`distgrad coordinator`"""

from __future__ import annotations

from pathlib import Path

import click

from distgrad.cluster.foreground import run_coordinator
from distgrad.transport.settings import TransportSettings

from .options import link_options


@click.command()
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:7400", show_default=True, help="Where to listen.")
@click.option("--journal", type=click.Path(dir_okay=False, path_type=Path), help="File in which updates are decided.")
@link_options
def coordinator(listen: str, journal: Path | None, settings: TransportSettings) -> None:
    """Runs the coordinator of a cluster until Ctrl-C."""
    run_coordinator(settings, listen, journal, click.echo)
