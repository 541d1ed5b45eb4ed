"""Figures that were measured, beside a peer's and what is to be reached, as a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

# Columns of text for a file or another program, which break no lines.
_UNBROKEN = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure.

    Attributes:
        lane: what carried it: "unix", "tcp" or "grpc".
        name: short, for programs.
        label: for people.
        unit: of `ours` and `theirs`: "ms", "GB/s" or "1/s".
        ours: the median.
        peer: whose figure `theirs` is; empty when there is none.
        theirs: the peer's median in the same run.
        ratio: how many times faster than the peer; 2 is twice as fast.
        target: what the ratio should reach; 0: nothing in particular.
    """

    lane: str
    name: str
    label: str
    unit: str
    ours: float
    peer: str = ""
    theirs: float = 0.0
    ratio: float = 0.0
    target: float = 0.0


def print_figures(figures: Iterable[Figure]) -> None:
    """Prints a row for each figure."""
    console = Console()
    if not console.is_terminal:
        console.width = _UNBROKEN
    console.print(figures_table(figures))


def figures_table(figures: Iterable[Figure]) -> Table:
    """What `print_figures` prints."""
    table = Table(box=None, pad_edge=False)
    for heading in ("lane", "measure"):
        table.add_column(heading)
    for heading in ("distgrad", "peer", "times faster", "to reach"):
        table.add_column(heading, justify="right")
    for figure in figures:
        beside = [f"{figure.peer} {_amount(figure.theirs, figure.unit)}", f"{figure.ratio:.2f}"] if figure.peer else []
        if figure.peer and figure.target:
            beside.append(f"{figure.target:.2f}{'' if figure.ratio >= figure.target else ' (missed)'}")
        row = [figure.lane, figure.label, _amount(figure.ours, figure.unit), *beside]
        table.add_row(*row, *[""] * (6 - len(row)))
    return table


def _amount(value: float, unit: str) -> str:
    return f"{value:.3f} {unit}" if unit == "ms" else f"{value:.2f} {unit}"
