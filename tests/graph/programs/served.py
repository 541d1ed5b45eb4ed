"""The shards of the graph's tests as workers serve them: all their public methods are remote."""

from __future__ import annotations

from typing import Any

import distgrad as dg
from tests.graph import shards, test_unusual


def served(kind: type) -> type:
    """The class as a shard, which is made from a list of positional arguments."""
    outputs = getattr(kind, "outputs", {})
    for name, method in vars(kind).items():
        if callable(method) and not name.startswith("_"):
            dg.remote(outputs=outputs.get(name, 1))(method)

    def make(self: Any, arguments: Any) -> None:
        kind.__init__(self, *arguments)  # type: ignore[misc]

    return type(kind.__name__, (kind, dg.Shard), {"__init__": make})


Dense = served(shards.Dense)
Router = served(shards.Router)
Hooked = served(shards.Hooked)
Counted = served(shards.Counted)
Table = served(shards.Table)
Odd = served(test_unusual.Odd)
