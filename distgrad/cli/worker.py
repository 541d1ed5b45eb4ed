"""`distgrad worker`"""

from __future__ import annotations

from typing import Any

import click

from distgrad.cluster.foreground import WorkerOptions, run_worker
from distgrad.transport.settings import TransportSettings

from .kinds import COUNT, PATH, SECONDS
from .options import health_option, link_options


@click.command()
@click.option(
    "--join",
    "coordinator",
    metavar="HOST:PORT",
    default="",
    envvar="DISTGRAD_JOIN",
    help="Address of the coordinator.  [default: what torchrun-style or Slurm variables say]",
)
@click.option("--programs", type=PATH, required=True, help="The folder of programs; no other code is run.")
@click.option("--name", default="", envvar="DISTGRAD_NAME", help="Name in the cluster.  [default: wRANK, else given]")
@click.option(
    "--listen", metavar="HOST:PORT", default="", help="Where other workers reach this one.  [default: a free port]"
)
@click.option(
    "--advertise",
    metavar="HOST[:PORT]",
    default="",
    envvar="DISTGRAD_ADVERTISE",
    help="Where others reach it, if not where it listens.",
)
@click.option(
    "--patience",
    metavar="SECONDS",
    type=SECONDS,
    default=60.0,
    show_default=True,
    help="How long to wait for a coordinator that is not there yet.",
)
@click.option("--max-depth", type=COUNT, default=1000, show_default=True, help="How deep calls may nest.")
@health_option
@link_options
def worker(settings: TransportSettings, **options: Any) -> None:
    """Runs a worker of a cluster until Ctrl-C, or until its coordinator is gone. The command is the same on every
    node: the coordinator gives names, or the launcher's rank does."""
    run_worker(WorkerOptions(**options), settings, click.echo)
