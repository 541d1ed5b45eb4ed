"""Byte streams below socket lanes: a plain socket, and one with TLS.

One thread reads and one at a time writes; any thread may end the stream. Writing never waits, so that a thread which
reads may write as well; reading waits.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from distgrad.wire.frames import Buffer

# Pieces that one system call takes; Linux's limit is 1024.
MAX_PIECES = 512
# Linux's `struct ucred`: process, user, group.
_CREDENTIALS = struct.Struct("3i")


# Where a socket connects to: its family and address.
Target = tuple[int, Any]


class Stream:
    """A stream socket that was accepted, or that `start` connects.

    Arguments:
        accepted: the socket, of a listener's side.
        targets: of an opener's side, tried one after the other.
        timeout: for connecting and shaking hands, in seconds.
    """

    def __init__(
        self, accepted: socket.socket | None = None, targets: Sequence[Target] = (), timeout: float = 5.0
    ) -> None:
        self.socket = accepted or socket.socket(targets[0][0])
        self._targets = targets
        self._timeout = timeout
        self._ended = False

    def start(self) -> None:
        """Makes the stream ready. Raises OSError when that cannot be."""
        self._connect()
        if self.socket.family == socket.AF_UNIX:
            require_same_user(self.socket)
        else:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(None)

    def _connect(self) -> None:
        refusal: OSError | None = None
        for family, address in self._targets:
            if refusal is not None:
                self.socket.close()
                self.socket = socket.socket(family)
            self.socket.settimeout(self._timeout)
            try:
                self.socket.connect(address)
                return
            except OSError as error:
                refusal = error
            if self._ended:
                break
        if refusal is not None:
            raise refusal

    def send(self, pieces: Sequence[Buffer]) -> int:
        """Writes what the system takes now; returns how many bytes. Raises BlockingIOError when it takes none."""
        if len(pieces) == 1:
            return self.socket.send(pieces[0], socket.MSG_DONTWAIT)
        return self.socket.sendmsg(pieces[:MAX_PIECES], (), socket.MSG_DONTWAIT)

    def receive_into(self, view: memoryview, wait_for_all: bool = False) -> int:
        """Waits for bytes, until `view` is full if so wished; returns how many came, 0 at the end."""
        filled = self._receive_some(view, wait_for_all)
        # A signal, or a stop of this process, ends the wait for all.
        while wait_for_all and 0 < filled < len(view):
            got = self._receive_some(view[filled:], wait_for_all)
            if not got:
                break
            filled += got
        return filled

    def _receive_some(self, view: memoryview, wait_for_all: bool) -> int:
        return self.socket.recv_into(view, 0, socket.MSG_WAITALL if wait_for_all else 0)

    def wait_writable(self) -> None:
        """Returns when `send` may do something again, or the stream has ended."""
        _wait(self.socket, select.POLLOUT)

    def finish(self) -> None:
        """Nothing more will be sent."""
        self._shut(socket.SHUT_WR)

    def end(self) -> None:
        """Ends both directions; whoever waits for this stream wakes. From any thread, more than once."""
        self._ended = True
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        with suppress(OSError):  # it was not connected, or is no more
            # Not the TLS socket's own method, which would let go of OpenSSL's state while another thread uses it.
            socket.socket.shutdown(self.socket, how)

    def close(self) -> None:
        """Gives the descriptor back. Nobody uses the stream any more."""
        self.socket.close()


class TlsStream(Stream):
    """A stream socket with TLS.

    OpenSSL's state must not be used by two threads at once, so it is used under a lock and never waits: who has to
    wait does so for the socket below, without the lock.

    Arguments:
        context: of the listener's or the opener's side.
        server_name: name that the listener's certificate must have; None on the listener's side.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        server_name: str | None = None,
        accepted: socket.socket | None = None,
        targets: Sequence[Target] = (),
        timeout: float = 5.0,
    ) -> None:
        super().__init__(accepted, targets, timeout)
        self._context = context
        self._server_name = server_name
        self._lock = threading.Lock()

    def start(self) -> None:
        super().start()
        self.socket.settimeout(self._timeout)
        secured = self._context.wrap_socket(
            self.socket,
            server_side=self._server_name is None,
            server_hostname=self._server_name,
            do_handshake_on_connect=False,
        )
        self.socket = secured
        if self._ended:
            raise ConnectionAbortedError("ended before TLS's handshake")
        secured.do_handshake()
        secured.setblocking(False)

    def send(self, pieces: Sequence[Buffer]) -> int:
        with self._lock:
            try:
                return self.socket.send(pieces[0])
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                raise BlockingIOError from None

    def _receive_some(self, view: memoryview, wait_for_all: bool) -> int:
        while True:
            with self._lock:
                try:
                    return self.socket.recv_into(view)
                except ssl.SSLWantReadError:
                    wanted = select.POLLIN
                except ssl.SSLWantWriteError:
                    wanted = select.POLLOUT
                except ssl.SSLEOFError:  # the connection ended without TLS's own farewell, which we never say
                    return 0
            _wait(self.socket, wanted)


def require_same_user(connected: socket.socket) -> None:
    """Refuses a Unix socket whose other side belongs to another user; the system vouches for that."""
    if not hasattr(socket, "SO_PEERCRED"):
        return
    _, user, _ = _CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if user not in (os.geteuid(), 0):
        raise PermissionError(f"a process of user {user} is at the other end of the Unix socket")


def _wait(waited: socket.socket, event: int) -> None:
    poll = select.poll()
    poll.register(waited, event)
    poll.poll()
