"""A worker started by another process, which gives it its orders: see `child`."""

from __future__ import annotations

from distgrad.autograd.allocator import keep_freed_memory

from .child import Parent, WorkerOrders
from .worker import Worker


def main() -> None:
    """Hosts shards until told to stop, or until the coordinator is gone."""
    keep_freed_memory()
    parent = Parent()
    with parent.reporting("worker"):
        orders = WorkerOrders.from_plain(parent.orders)
        worker = Worker(
            orders.name,
            orders.coordinator,
            orders.programs,
            orders.settings,
            orders.listen,
            max_depth=orders.max_depth,
            patience=orders.patience,
        )
        reason = ""
        try:
            parent.attend(worker.stop)
            worker.start()
            identity = worker.process.identity
            parent.tell("ready", address=identity.address, incarnation=identity.incarnation)
            reason = worker.wait()
            parent.tell("ended", reason=reason)
        finally:
            worker.close(reason)


if __name__ == "__main__":
    main()
