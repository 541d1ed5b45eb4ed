"""What a process does beside its contexts and calls."""

from __future__ import annotations

from collections import deque
from typing import Any

from distgrad.wire import RefName
from tests.graph.memory_cluster import memory_cluster


class Raced(deque[Any]):
    """A queue that another thread empties between a look into it and the next step."""

    def popleft(self) -> Any:
        self.clear()
        return super().popleft()


def test_threads_that_tell_of_forgotten_values_at_once_do_not_trip_over_one_another() -> None:
    with memory_cluster(1) as cluster:
        cluster.driver._forgotten["w0"] = Raced([RefName("w0", "driver/inference", (0,))])
        assert cluster.driver.forgotten("w0") == []
