"""`distgrad bench`"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict

import click

from distgrad.cluster.bench import MEASURES, figures
from distgrad.cluster.local import LANES
from distgrad.show.figures import print_figures

from .kinds import SOME_SECONDS


@click.command()
@click.option("--lane", "lanes", type=click.Choice(list(LANES)), multiple=True, help="May be repeated; all by default.")
@click.option(
    "--measure", "measures", metavar="NAME", multiple=True, help="May be repeated; all by default. See --list."
)
@click.option(
    "--seconds",
    type=SOME_SECONDS,
    default=2.0,
    show_default=True,
    help="For each measure on each lane.",
)
@click.option("--torch/--no-torch", default=True, help="Beside torch.distributed.rpc, where torch is installed.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures, and of what machine they are, as JSON.")
@click.option("--list", "list_only", is_flag=True, help="Print the names of what can be measured.")
def bench(
    lanes: tuple[str, ...], measures: tuple[str, ...], seconds: float, torch: bool, as_json: bool, list_only: bool
) -> None:
    """Measures on this machine what remote calls, backward passes and transfers cost, in turns with torch's. Above 1,
    a ratio says how many times faster distgrad is."""
    if list_only:
        for measure in MEASURES.values():
            click.echo(f"{measure.name:14} {measure.label}")
        return
    before = os.getloadavg()[0]
    found = []
    for figure in figures(lanes or LANES, measures or tuple(MEASURES), seconds, torch):
        found.append(figure)
        click.echo(f"{figure.lane}: {figure.label}", err=True)
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "load_before": before}
    if as_json:
        click.echo(json.dumps({"machine": machine, "figures": [asdict(figure) for figure in found]}, indent=1))
        return
    print_figures(found)
    click.echo(f"Python {machine['python']}, {machine['cores']} cores, load before {before:.1f}")
