"""Twins: copies of a shard that are trained on different data and have the same parameters after every update.

The twins of `stem` are `stem@1`, `stem@2`, ...; `stem` itself is number 0. They begin with its weights.
"""

from __future__ import annotations

from collections.abc import Iterable


def twin(shard: str, number: int) -> str:
    """The name of a shard's twin of that number; 0 is the shard itself."""
    return f"{shard}@{number}" if number else shard


def original(shard: str) -> str:
    """The shard whose twin that is; itself, when it is none's."""
    return shard.partition("@")[0]


def families(shards: Iterable[str]) -> list[list[str]]:
    """The shards that have twins among these, each with them, by number."""
    counts: dict[str, int] = {}
    for shard in shards:
        counts[original(shard)] = counts.get(original(shard), 0) + 1
    return [[twin(name, number) for number in range(count)] for name, count in sorted(counts.items()) if count > 1]
