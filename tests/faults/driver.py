"""A driver in a process of its own, which a test makes vanish: `python -m tests.faults.driver`.

Reads from its standard input where the coordinator is. Holds three contexts, and a backward in a fourth; told that it
has come so far, says "holding".
"""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack

from distgrad.coordinator.client import Client

from .moments import SEED, X
from .world import quick_settings


def main() -> None:
    coordinator = sys.stdin.readline().strip()
    with ExitStack() as stack:
        driver = stack.enter_context(Client(coordinator, quick_settings(), "vanishing"))
        a, b = driver.shard("a"), driver.shard("b")
        kept = a.forward(X)  # outside any context
        kept.wait()
        for _ in range(3):
            # The value goes on to w1, with which this process never speaks.
            stack.enter_context(driver.context())
            a.chain(X, b, "forward").wait()
        threading.Thread(target=stand_still, args=(driver,), daemon=True).start()
        sys.stdin.readline()
        assert driver.process.endpoint.link("w1") is None
        print("holding", flush=True)
        sys.stdin.read()


def stand_still(driver: Client) -> None:
    """A backward that stops on w1."""
    a, b = driver.shard("a"), driver.shard("b")
    with driver.context() as context:
        context.backward(a.chain(X, b, "stop_backward"), SEED)


if __name__ == "__main__":
    main()
