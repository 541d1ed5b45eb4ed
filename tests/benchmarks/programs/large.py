"""A shard of a size to be chosen."""

from __future__ import annotations

from typing import Any

import numpy as np

import distgrad as dg


class Large(dg.Shard):
    """Rows of a table, of which a call uses one."""

    def __init__(self, megabytes: int) -> None:
        self.rows = [dg.nn.Parameter(np.full((2**20 // 4,), row, np.float32)) for row in range(megabytes)]

    @dg.remote
    def use(self, row: int) -> Any:
        return (self.rows[int(row)] ** 2).sum()
