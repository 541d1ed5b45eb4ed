"""`distgrad graph JOB.toml`"""

from __future__ import annotations

from pathlib import Path

import click

from distgrad.cluster.rehearse import graph_of
from distgrad.coordinator.training.job import open_job

from .kinds import PATH


@click.command()
@click.argument("job", type=PATH)
@click.option("--workers", metavar="N", type=int, help="On N workers instead of those the file names.")
@click.option(
    "--set", "overrides", metavar="A.B=VALUE", multiple=True, help="Replace a value of the file; may be repeated."
)
@click.option("--dot", is_flag=True, help="Print it for Graphviz: distgrad graph JOB.toml --dot | dot -Tsvg > job.svg")
def graph(job: Path, workers: int | None, overrides: tuple[str, ...], dot: bool) -> None:
    """Shows the global graph of the job in the file JOB: runs one microbatch on worker processes of this machine, and
    prints its calls, where they ran, and what crossed between them."""
    found = graph_of(open_job(job, overrides, workers))
    click.echo(found.dot() if dot else str(found))
