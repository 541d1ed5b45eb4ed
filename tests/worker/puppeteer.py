"""A process that starts puppets, says so, and waits to be killed: `python -m tests.worker.puppeteer HOW ...`."""

from __future__ import annotations

import queue
import sys
import threading
from pathlib import Path

from distgrad.cluster.directory import run_directory, socket_in
from distgrad.transport.settings import TransportSettings
from distgrad.worker.child import Orders
from distgrad.worker.children import Child, Children, Event


def puppet_orders(kind: str, directory: Path) -> Orders:
    return Orders(
        name=kind,
        listen=socket_in(directory, kind),
        directory=str(directory),
        settings=TransportSettings.for_tests(token="a-secret"),
    )


def main() -> None:
    heard: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def hear(child: Child, event: Event) -> None:
        heard.put(event)

    with run_directory() as directory, Children(directory, 1, hear) as children:
        for kind in sys.argv[1:]:
            child = children.start(kind, "tests.worker.puppet")
            child.begin(puppet_orders(kind, directory))
            assert heard.get()["event"] == "ready"
        print(*(child.pid for child in children), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
