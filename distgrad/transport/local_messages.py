"""Messages of the gradient service on a Unix socket; what is on it is described at `GetLocalSocketResponse`."""

from __future__ import annotations

import os
import socket
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from distgrad.errors import WireError
from distgrad.wire.frames import Buffer

HEADER = struct.Struct("<II")
# Where a payload is.
INLINE, LENT, OWN = 0, 1, 2
# Read at once.
BUFFER = 2**16
_DESCRIPTORS = 8


class LocalMessage(NamedTuple):
    """A message as it came.

    Attributes:
        where: its payload is: INLINE, LENT, OWN.
        descriptor: of the memory, to be closed by whoever takes the message; -1 when there is none.
    """

    encoded: bytes
    where: int
    descriptor: int


def packed(pieces: Sequence[Buffer], where: int = INLINE) -> bytes:
    """A message as it goes."""
    encoded = b"".join(pieces)
    return HEADER.pack(len(encoded), where) + encoded


class LocalReader:
    """Cuts what comes from one socket into messages.

    Arguments:
        beside: at which values of `where` a descriptor comes along.
        max_bytes: of a message.
    """

    def __init__(self, beside: frozenset[int], max_bytes: int) -> None:
        self._beside = beside
        self._max_bytes = max_bytes
        self._bytes = bytearray()
        self._descriptors: deque[int] = deque()

    def receive(self, connected: socket.socket) -> Iterator[LocalMessage]:
        """Reads once from the socket, and gives the messages that are complete.

        Raises:
            BlockingIOError: there is nothing to read now.
            ConnectionResetError: the other side ended the connection.
            OSError: it broke.
            WireError: what came is no message.
        """
        data, descriptors, _, _ = socket.recv_fds(connected, BUFFER, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        self._descriptors += descriptors
        if not data:
            raise ConnectionResetError("the other side ended the connection")
        self._bytes += data
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> LocalMessage | None:
        if len(self._bytes) < HEADER.size:
            return None
        length, where = HEADER.unpack_from(self._bytes)
        if length > self._max_bytes:
            raise WireError(f"a message of {length} bytes was announced, {self._max_bytes} are allowed")
        end = HEADER.size + length
        if len(self._bytes) < end:
            return None
        descriptor = -1
        if where in self._beside:
            if not self._descriptors:
                raise WireError("a message says that its payload is in memory, and no descriptor came along")
            descriptor = self._descriptors.popleft()
        encoded = bytes(memoryview(self._bytes)[HEADER.size : end])
        del self._bytes[:end]
        return LocalMessage(encoded, where, descriptor)

    def close(self) -> None:
        """Closes descriptors that no message has named."""
        while self._descriptors:
            os.close(self._descriptors.popleft())
