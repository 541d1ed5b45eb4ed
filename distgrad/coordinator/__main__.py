"""A coordinator started by another process, which gives it its orders: see `child`."""

from __future__ import annotations

import sys

from distgrad.worker.child import Parent

from .child import TrainingOrders, train


def main() -> int:
    """Trains a job; returns the exit code."""
    parent = Parent()
    try:
        train(parent, TrainingOrders.from_plain(parent.orders))
    except Exception as error:
        parent.tell_failure(error, "training")
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
