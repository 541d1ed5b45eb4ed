"""Places in programs of other processes where a test stops them and lets them go on.

A shard connects to the gate's socket and waits to read from it (`programs/gated.py`). So the test knows when a process
is in the middle of something, without looking at a clock, and every wait has a deadline.
"""

from __future__ import annotations

import select
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Seconds within which what must happen has happened, on the slowest machine.
DEADLINE = 20.0


class Gate:
    """Where processes stop.

    Attributes:
        address: of its socket, to be given to shards.
    """

    def __init__(self, address: Path) -> None:
        self.address = str(address)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.address)
        self._listener.listen()
        self._listener.settimeout(DEADLINE)
        self._visitors: list[Visitor] = []

    def reached(self) -> Visitor:
        """The next process to stop here, once it has."""
        connection, _ = self._listener.accept()
        visitor = Visitor(connection)
        self._visitors.append(visitor)
        return visitor

    def is_reached(self) -> bool:
        """Whether a process has stopped here that `reached` has not told of yet."""
        return bool(select.select([self._listener], [], [], 0)[0])

    def let_all_go(self) -> None:
        """Lets everybody go on who has stopped so far."""
        while self.is_reached():
            self.reached()
        for visitor in self._visitors:
            visitor.let_go()
        self._visitors.clear()

    def close(self) -> None:
        """Lets everybody go on, and stops nobody any more."""
        self.let_all_go()
        self._listener.close()


class Visitor:
    """A process that has stopped at a gate.

    Attributes:
        tag: where in its program.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(DEADLINE)
        self._connection = connection
        with connection.makefile() as lines:
            self.tag = lines.readline().strip()

    def let_go(self) -> None:
        """Lets it go on."""
        self._connection.close()

    def __repr__(self) -> str:
        return f"<Visitor in the middle of a {self.tag}>"


@contextmanager
def open_gate() -> Iterator[Gate]:
    with tempfile.TemporaryDirectory() as folder:
        gate = Gate(Path(folder) / "gate")
        try:
            yield gate
        finally:
            gate.close()
