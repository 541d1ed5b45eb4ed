"""Who is in a cluster, as a table, and what it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table

from distgrad.coordinator.client import WorkerStatus
from distgrad.wire import pb

_COUNTS = ("contexts", "values", "calls", "links", "system_threads", "descriptors", "memory_bytes")
_HEADINGS = {"system_threads": "threads", "memory_bytes": "memory"}

# Columns of text for a file or another program, which break no lines.
_UNBROKEN = 1000


def print_members(workers: Iterable[WorkerStatus]) -> None:
    """Prints a row for each worker: what it is, how it is, and how much it holds; then who waits for whom."""
    workers = list(workers)
    console = Console()
    if not console.is_terminal:
        console.width = _UNBROKEN
    console.print(members_table(workers))
    for line in (line for worker in workers for line in worker.waits):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def members_table(workers: Iterable[WorkerStatus]) -> Table:
    """What `print_members` prints."""
    table = Table(box=None, pad_edge=False)
    for heading in ("worker", "state", "process", "address"):
        table.add_column(heading, overflow="fold")
    for name in _COUNTS:
        table.add_column(_HEADINGS.get(name, name), justify="right")
    for worker in workers:
        state = worker.state + (f": {worker.reason}" if worker.reason else "")
        counts = [_count(name, worker.counts) for name in _COUNTS]
        table.add_row(worker.name, state, str(worker.pid), worker.address, *counts)
    return table


def print_job(job: pb.JobStatus | None) -> None:
    """Prints how far the job has come that runs on a cluster, and where its shards are."""
    print(job_line(job))


def job_line(job: pb.JobStatus | None) -> str:
    """What `print_job` prints."""
    if job is None:
        return "no job runs"
    where = ", ".join(f"{shard} on {worker}" for shard, worker in sorted(job.shards.items())) or "none yet"
    return (
        f"job {job.name}: step {job.step} of {job.steps} after {job.seconds:.0f} s, trained by {job.trainer}; shards: "
        f"{where}"
    )


def _count(name: str, counts: Mapping[str, int]) -> str:
    if name not in counts:
        return ""
    return f"{counts[name] / 2**20:.0f} MiB" if name == "memory_bytes" else str(counts[name])
