"""Who is in a cluster, as a table."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from distgrad.coordinator.client import WorkerStatus

_COUNTS = ("contexts", "values", "calls", "links")


def members_table(workers: Iterable[WorkerStatus]) -> Table:
    """A row for each worker: what it is, how it is, and how much it holds."""
    table = Table(box=None, pad_edge=False)
    for heading in ("worker", "state", "process", "address"):
        table.add_column(heading, overflow="fold")
    for heading in _COUNTS:
        table.add_column(heading, justify="right")
    for worker in workers:
        state = worker.state + (f": {worker.reason}" if worker.reason else "")
        counts = [str(worker.counts.get(name, "")) for name in _COUNTS]
        table.add_row(worker.name, state, str(worker.pid), worker.address, *counts)
    return table
