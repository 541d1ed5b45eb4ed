"""Which members of a cluster stand for the workers a job names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .names import natural_order


def assign_workers(names: Sequence[str], members: Iterable[str]) -> dict[str, str]:
    """A member for every worker of a job: the one of that name, else the next that no worker is named after, w2 before
    w10. The results are the same bits whoever it is. Workers for whom nobody is left are absent."""
    present = set(members)
    others = iter(sorted(present - set(names), key=natural_order))
    chosen = {name: name if name in present else next(others, "") for name in names}
    return {name: member for name, member in chosen.items() if member}
