"""A worker started by another process, which gives it its orders: see `child`."""

from __future__ import annotations

import sys

from distgrad.autograd.allocator import keep_freed_memory

from .child import Parent, WorkerOrders
from .worker import Worker


def main() -> int:
    """Hosts shards until told to stop; returns the exit code."""
    keep_freed_memory()
    parent = Parent()
    orders = WorkerOrders.from_plain(parent.orders)
    try:
        worker = Worker(
            orders.name,
            orders.coordinator,
            orders.programs,
            orders.settings,
            orders.listen,
            max_depth=orders.max_depth,
        )
        try:
            parent.attend(worker.stop)
            worker.start()
            identity = worker.process.identity
            parent.tell("ready", address=identity.address, incarnation=identity.incarnation)
            parent.tell("ended", reason=worker.wait())
        finally:
            worker.close()
    except Exception as error:
        parent.tell_failure(error, "worker")
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
