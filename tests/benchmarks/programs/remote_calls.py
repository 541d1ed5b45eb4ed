"""The shard that `remote_calls` calls."""

from __future__ import annotations

from typing import Any

import distgrad as dg


class Scale(dg.Shard):
    """Does next to nothing, so that what is measured is the call."""

    @dg.remote
    def echo(self, x: Any) -> Any:
        return x

    @dg.remote
    def multiply(self, x: Any, y: Any) -> Any:
        return x * y

    @dg.remote
    def sink(self, x: Any) -> None:
        return None
