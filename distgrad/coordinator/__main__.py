"""A coordinator started by another process, which gives it its orders: see `child`."""

from __future__ import annotations

from distgrad.worker.child import Parent

from .child import TrainingOrders, train


def main() -> None:
    """Trains a job."""
    parent = Parent()
    with parent.reporting("training"):
        train(parent, TrainingOrders.from_plain(parent.orders))


if __name__ == "__main__":
    main()
