"""Unix sockets of the server: the processes of its pool come here, and clients on its machine.

Who comes says a ticket, 32 bytes that it was given before, and is connected to whoever gave the ticket out. A ticket is
good for one connection. The socket has an abstract name and takes processes of the server's user only.

For the thread of the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from distgrad.errors import WireError
from distgrad.transport.local_messages import LocalMessage, LocalReader
from distgrad.transport.streams import require_same_user

TICKET_BYTES = 32
# Who has not shown a ticket by then is not let in.
PATIENCE = 3.0
BACKLOG = 128
# Messages that wait for a side that does not read; each may hold a descriptor.
MAX_WAITING = 512

Connected = Callable[[socket.socket], None]

logger = logging.getLogger("distgrad.service")


class LocalListener:
    """Listens from the beginning.

    Attributes:
        name: abstract name of the socket.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.name = f"distgrad-{secrets.token_hex(8)}"
        self._loop = loop
        self._tickets: dict[bytes, Connected] = {}
        self._entering: set[asyncio.Task[None]] = set()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setblocking(False)
        self._socket.bind(b"\0" + self.name.encode())
        self._socket.listen(BACKLOG)
        loop.add_reader(self._socket, self._accept)

    def ticket(self, connected: Connected, patience: float | None = None) -> bytes:
        """A ticket for one connection, which is given to `connected`; good for `patience` seconds, or for ever."""
        ticket = secrets.token_bytes(TICKET_BYTES)
        self._tickets[ticket] = connected
        if patience is not None:
            self._loop.call_later(patience, self._tickets.pop, ticket, None)
        return ticket

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            try:
                connected, _ = self._socket.accept()
            except OSError as error:
                logger.warning("a local connection could not be accepted: %s", error)
                return
            connected.setblocking(False)
            task = self._loop.create_task(self._let_in(connected))
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)

    async def _let_in(self, connected: socket.socket) -> None:
        try:
            require_same_user(connected)
            async with asyncio.timeout(PATIENCE):
                ticket = await self._loop.sock_recv(connected, TICKET_BYTES)
            self._tickets.pop(ticket)(connected)
        except (OSError, KeyError, TimeoutError) as error:
            reason = "its ticket is not known" if isinstance(error, KeyError) else str(error) or "it showed no ticket"
            logger.warning("a local connection was refused: %s", reason)
            connected.close()
        except BaseException:
            connected.close()
            raise

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for task in self._entering:
            task.cancel()


class LocalConnection:
    """One connection, after its ticket. Reading never waits for writing; what the other side does not take is kept.

    Arguments:
        connected: not blocking.
        reader: cuts what comes into messages.
        received: called with the messages that came together.
        ended: called once, with the reason, when the other side is gone or has sent nonsense.
        max_pending: bytes to keep for the other side; one that lets more pile up is cut off.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connected: socket.socket,
        reader: LocalReader,
        received: Callable[[list[LocalMessage]], None],
        ended: Callable[[str], None],
        max_pending: int,
    ) -> None:
        self._loop = loop
        self._socket = connected
        self._reader = reader
        self._received = received
        self._ended = ended
        self._max_pending = max_pending
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._pending = 0
        self.open = True
        loop.add_reader(connected, self._read)

    def send(self, message: bytes, descriptor: int = -1) -> None:
        """Sends a message, or keeps it. A descriptor that goes along is duplicated when it must be kept."""
        if not self.open:
            return
        if not self._waiting:
            sent = self._try(message, [descriptor] if descriptor >= 0 else [])
            if sent == len(message):
                return
            message = message[sent:]
            if sent:
                descriptor = -1
            if not self.open:
                return
            self._loop.add_writer(self._socket, self._write)
        self._pending += len(message)
        if self._pending > self._max_pending or len(self._waiting) == MAX_WAITING:
            self.close("it does not read what it is sent")
            return
        self._waiting.append((message, [os.dup(descriptor)] if descriptor >= 0 else []))

    def _try(self, message: bytes, descriptors: list[int]) -> int:
        try:
            if descriptors:
                return socket.send_fds(self._socket, [message], descriptors)
            return self._socket.send(message)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.close(str(error))
            return 0

    def _write(self) -> None:
        while self._waiting:
            message, descriptors = self._waiting[0]
            sent = self._try(message, descriptors)
            if not self.open or not sent:
                return
            for descriptor in descriptors:
                os.close(descriptor)
            self._pending -= sent
            if sent < len(message):
                self._waiting[0] = message[sent:], []
                return
            self._waiting.popleft()
        self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        messages: list[LocalMessage] = []
        reason = ""
        try:
            messages += self._reader.receive(self._socket)
        except BlockingIOError:
            return
        except (OSError, WireError) as error:
            reason = str(error)
        if messages:
            self._received(messages)
        if reason:
            self.close(reason)

    def close(self, reason: str) -> None:
        """Ends the connection, with what was not yet sent."""
        if not self.open:
            return
        self.open = False
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        for _, descriptors in self._waiting:
            for descriptor in descriptors:
                os.close(descriptor)
        self._waiting.clear()
        self._reader.close()
        self._socket.close()
        self._ended(reason)
