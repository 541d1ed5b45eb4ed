"""`distgrad simulate JOB.toml`"""

from __future__ import annotations

from pathlib import Path

import click

from distgrad.cluster.rehearse import rehearsal
from distgrad.coordinator.training.job import open_job
from distgrad.coordinator.training.predict import predictions
from distgrad.show.schedules import measured_text, predictions_text

from .kinds import PATH


@click.command()
@click.argument("job", type=PATH)
@click.option("--workers", metavar="N", type=int, help="On N workers instead of those the file names.")
@click.option(
    "--set", "overrides", metavar="A.B=VALUE", multiple=True, help="Replace a value of the file; may be repeated."
)
@click.option("--check", is_flag=True, help="Run some steps by every schedule, and show what they took beside it.")
@click.option(
    "--chart", is_flag=True, help="Show when each worker would compute what: F calls, B gradients, W weights."
)
def simulate(job: Path, workers: int | None, overrides: tuple[str, ...], check: bool, chart: bool) -> None:
    """Predicts what each pipeline schedule would make of the job in the file JOB: runs some steps on worker processes
    of this machine, measures what their tasks and messages take, simulates a step by every schedule, and says which to
    pick."""
    opened = open_job(job, overrides, workers)
    with rehearsal(opened) as steps:
        measured = steps.measure(opened.pipeline.schedule)
        found = predictions(measured)
        achieved = {one.schedule.name: steps.measure(one.schedule.name) for one in found} if check else {}
    click.echo(measured_text(measured))
    click.echo(predictions_text(found, achieved))
    click.echo(f'pick: --set pipeline.schedule="{found[0].schedule.name}"')
    if chart:
        for one in found:
            click.echo(f"{one.schedule.name}:\n{one.timeline.chart()}")
