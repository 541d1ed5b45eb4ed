"""Which members of a cluster stand for the workers a job names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from .job import Job
from .names import natural_order


def assign_workers(names: Sequence[str], members: Iterable[str]) -> dict[str, str]:
    """A member for every worker of a job: the one of that name, else the next that no worker is named after, w2 before
    w10. The results are the same bits whoever it is. Workers for whom nobody is left are absent."""
    present = set(members)
    others = iter(sorted(present - set(names), key=natural_order))
    chosen = {name: name if name in present else next(others, "") for name in names}
    return {name: member for name, member in chosen.items() if member}


def on_members(job: Job, assigned: Mapping[str, str]) -> Job:
    """The same job on the members that stand for its workers."""
    shards = tuple(replace(shard, worker=assigned[shard.worker] if shard.worker else None) for shard in job.shards)
    workers = tuple(assigned[name] for name in job.cluster.workers)
    return replace(job, cluster=replace(job.cluster, workers=workers), shards=shards)
