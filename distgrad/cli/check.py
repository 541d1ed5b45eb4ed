"""`distgrad check HOST:PORT FUNCTION`"""

from __future__ import annotations

import click
import numpy as np

from distgrad.service.client import Client
from distgrad.service.client.shell import parse_assignments
from distgrad.service.client.verify import random_arguments, verify

from .kinds import COUNT
from .options import service_options


@click.command()
@click.argument("service", metavar="HOST:PORT")
@click.argument("function")
@click.argument("assignments", metavar="[NAME=VALUE]...", nargs=-1)
@click.option("--directions", type=COUNT, default=3, show_default=True, help="How many random directions are tried.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all random numbers.")
@service_options
def check(service: Client, function: str, assignments: tuple[str, ...], directions: int, seed: int) -> int:
    """Tests whether the derivatives of a served function are right; exits with 0 when they are.

    No step size is to be chosen: what a Taylor polynomial with the derivatives leaves must shrink with the step to the
    power of 2 (first derivatives) or 3 (second ones). Arguments that are not given are random.
    """
    rng = np.random.default_rng(seed)
    remote = service[function]
    findings = list(verify(remote, random_arguments(remote, parse_assignments(assignments), rng), directions, rng))
    for finding in findings:
        mark = click.style("right" if finding.right else "WRONG", fg="green" if finding.right else "red")
        click.echo(f"  {mark}  {finding.what:20} {finding.detail}")
    right = all(finding.right for finding in findings)
    click.echo(f"the derivatives of {function} are {'right' if right else 'WRONG'} here")
    return 0 if right else 1
