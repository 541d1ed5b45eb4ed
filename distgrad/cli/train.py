"""`distgrad train JOB.toml`"""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from distgrad.cluster.attach import train_on_cluster
from distgrad.cluster.supervise import Training
from distgrad.cluster.supervise import train as run
from distgrad.show.progress import DISPLAYS
from distgrad.transport.settings import TransportSettings

from .kinds import PATH
from .options import link_options


@click.command()
@click.argument("job", type=PATH)
@click.option("--workers", metavar="N", type=int, help="Train on N workers instead of those the file names.")
@click.option(
    "--cluster",
    metavar="HOST:PORT",
    help="Train on workers that have joined this coordinator, instead of on this machine.",
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help='Train on workers that Ray runs: "auto" for the Ray this machine belongs to, "local" to start one here.',
)
@click.option(
    "--ray-cpus", metavar="CPUS", type=float, help="With --ray: what each worker takes of Ray's.  [default: 1.0]"
)
@click.option("--resume", is_flag=True, help="Continue from the newest checkpoint.")
@click.option("--fresh", is_flag=True, help="Begin anew, removing the checkpoints of an earlier run.")
@click.option(
    "--set", "overrides", metavar="A.B=VALUE", multiple=True, help="Replace a value of the file; may be repeated."
)
@click.option("--quiet", "display", flag_value="quiet", help="Print the last line only.")
@click.option("--json", "display", flag_value="json", help="Print events, a JSON object a line.")
@link_options
def train(
    job: Path,
    workers: int | None,
    cluster: str | None,
    ray: str | None,
    ray_cpus: float | None,
    resume: bool,
    fresh: bool,
    overrides: tuple[str, ...],
    display: str | None,
    settings: TransportSettings,
) -> None:
    """Trains the job in the file JOB on worker processes of this machine, of a cluster, or on Ray. The options for
    links, from --cluster-name to --insecure, are for those on other machines."""
    if resume and fresh:
        raise click.UsageError("--resume continues an earlier run and --fresh removes it: choose one")
    if "" in (cluster, ray):
        raise click.UsageError("--cluster and --ray want to know where; without them, this machine trains the job")
    if cluster and ray:
        raise click.UsageError("--cluster trains on workers that have joined and --ray on Ray's: choose one")
    if ray_cpus is not None and not ray:
        raise click.UsageError("--ray-cpus is what workers take of Ray's: it goes with --ray")
    training = Training(job, overrides, workers, resume, fresh)
    console = Console()
    with DISPLAYS[display or ("bar" if console.is_terminal else "plain")](console) as show:
        if cluster:
            train_on_cluster(training, cluster, settings, show)
        elif ray:
            from distgrad.cluster.ray import train_on_ray  # which needs the package ray

            train_on_ray(training, ray, 1.0 if ray_cpus is None else ray_cpus, settings, show)
        else:
            run(training, show)
