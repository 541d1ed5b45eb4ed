"""`distgrad coordinator`"""

from __future__ import annotations

from typing import Any

import click

from distgrad.cluster.environment import PORT
from distgrad.cluster.foreground import CoordinatorOptions, run_coordinator
from distgrad.transport.settings import TransportSettings

from .kinds import FILE, FOLDER, NEW_FILE
from .options import health_option, link_options


@click.command()
@click.option("--listen", metavar="HOST:PORT", default=f"127.0.0.1:{PORT}", show_default=True, help="Where to listen.")
@click.option("--journal", type=NEW_FILE, help="File in which updates are decided.")
@click.option(
    "--checkpoints",
    metavar="DIR",
    type=FOLDER,
    help="Where clients may save and restore, and nowhere else.  [default: anywhere]",
)
@click.option(
    "--client-tokens", type=FILE, help="File with further tokens, one a line, that admit clients and no workers."
)
@health_option
@link_options
def coordinator(settings: TransportSettings, **options: Any) -> None:
    """Runs the coordinator of a cluster until Ctrl-C. Started anew with its journal, it takes up the cluster again."""
    run_coordinator(CoordinatorOptions(**options), settings, click.echo)
