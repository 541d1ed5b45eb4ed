"""`distgrad call HOST:PORT FUNCTION`"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from distgrad.service.client import Client
from distgrad.service.client.calls import CALLS, call_function
from distgrad.service.client.shell import parse_assignments, printable, save

from .kinds import NEW_FILE
from .options import service_options


def _products(command: Callable[..., Any]) -> Callable[..., Any]:
    for name in reversed(CALLS):
        command = click.option(f"--{name}", "product", flag_value=name, help=CALLS[name].help)(command)
    return command


@click.command()
@click.argument("service", metavar="HOST:PORT")
@click.argument("function")
@click.argument("assignments", metavar="[NAME=VALUE]...", nargs=-1)
@_products
@click.option("--wrt", metavar="NAME", multiple=True, help="Differentiate by this argument.  [default: the first]")
@click.option("--out", type=NEW_FILE, help="Save arrays there (.npz), print no values.")
@service_options
def call(
    service: Client,
    function: str,
    assignments: tuple[str, ...],
    product: str | None,
    wrt: tuple[str, ...],
    out: Path | None,
) -> None:
    """Asks a service for the value of a function or a product of its derivatives, and prints it as JSON.

    VALUE is JSON, a Python literal, or @FILE (.npy, .npz, .json). Cotangents, tangents and vectors are v=VALUE.

    \b
    distgrad call localhost:7500 rosenbrock --vjp x=@x.npy v=1.0
    distgrad call localhost:7500 rosenbrock --hvp 'x=[1.2, 0.7]' 'v=[1.0, 0.0]'
    """
    answer = call_function(service[function], product or "value", parse_assignments(assignments), wrt)
    if out is not None:
        click.echo(f"{out}: {', '.join(save(out, answer))}")
    else:
        click.echo(printable(answer[next(iter(answer))] if len(answer) == 1 else answer))
