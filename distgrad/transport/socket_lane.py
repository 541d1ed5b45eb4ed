"""Where lanes over sockets come from: listeners, and connections to them."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable

from distgrad.errors import ConfigError, LinkError

from .addresses import free_path, nobody_listens, tcp_address, unix_address
from .credentials import ssl_context
from .interfaces import Port
from .settings import TransportSettings
from .stream_lane import StreamLane
from .streams import Stream, Target, TlsStream
from .threads import Threads

# Connections that the system keeps until they are accepted.
BACKLOG = 128
# Pause after the system had no descriptor, memory or thread for a connection.
BREATH = 0.1

logger = logging.getLogger("distgrad.transport")


class SocketLanes:
    """Implements `Lanes` for addresses "socket:HOST:PORT", "socket:/PATH" and "socket:@NAME".

    Unix sockets carry frames of processes of one user only, TCP sockets use TLS when the settings say so.
    """

    def __init__(self, settings: TransportSettings) -> None:
        self._settings = settings
        self._listeners: list[tuple[socket.socket, str]] = []
        self._lanes: set[StreamLane] = set()
        self._threads = Threads()
        self._lock = threading.Lock()
        self._closing = threading.Event()

    # ---- listening ---------------------------------------------------------------------------------------------------

    def listen(self, address: str, accept: Callable[[], Port]) -> str:
        context = self._listening_context(address)
        free_path(address)
        try:
            listener = self._bind(address)
        except OSError as error:
            raise LinkError(f"cannot listen at {address}: {error.strerror or error}") from error
        path = unix_address(address)
        self._listeners.append((listener, path if isinstance(path, str) else ""))
        self._threads.start("distgrad-listener", self._serve, listener, accept, context)
        return address if path is not None else f"{address.rpartition(':')[0]}:{listener.getsockname()[1]}"

    def _listening_context(self, address: str) -> ssl.SSLContext | None:
        tls = self._settings.tls
        if tls is None or unix_address(address) is not None:
            return None
        if tls.certificate is None:
            raise ConfigError(f"listening at {address} with TLS needs tls.certificate and tls.key")
        return ssl_context(ssl.PROTOCOL_TLS_SERVER, tls)

    def _bind(self, address: str) -> socket.socket:
        family, to = _targets(address)[0]
        listener = socket.socket(family)
        try:
            if family != socket.AF_UNIX:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            elif isinstance(to, str) and os.path.exists(to):
                os.unlink(to)
            listener.bind(to)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    def _serve(self, listener: socket.socket, accept: Callable[[], Port], context: ssl.SSLContext | None) -> None:
        """The life of a listener's thread."""
        while not self._closing.is_set():
            try:
                connected, _ = listener.accept()
            except OSError as error:
                if not self._closing.wait(BREATH):
                    logger.warning("a connection could not be accepted: %s", error)
                continue
            try:
                self._take_in(connected, accept, context)
            except (OSError, RuntimeError) as error:
                logger.warning("a connection was refused: %s", error)
                connected.close()

    def _take_in(self, connected: socket.socket, accept: Callable[[], Port], context: ssl.SSLContext | None) -> None:
        # Twice as many, for probes and handshakes; and who is one too many as a member gets a goodbye with words.
        if len(self._lanes) > 2 * self._settings.max_links:
            raise ConnectionRefusedError("there are too many")
        limit = self._settings.silence
        stream = TlsStream(context, accepted=connected, timeout=limit) if context else Stream(connected, timeout=limit)
        self._begin(accept(), stream)

    # ---- opening -----------------------------------------------------------------------------------------------------

    def open(self, address: str, port: Port) -> None:
        limit, tls = self._settings.connect_timeout, self._settings.tls
        try:
            targets = _targets(address)
        except OSError as error:
            port.broken(f"{address} is not known: {error.strerror or error}")
            return
        if tls is None or unix_address(address) is not None:
            stream = Stream(targets=targets, timeout=limit)
        else:
            name = tls.server_name or tcp_address(address)[0]
            stream = TlsStream(ssl_context(ssl.PROTOCOL_TLS_CLIENT, tls), name, targets=targets, timeout=limit)
        self._begin(port, stream)

    def vacant(self, address: str) -> bool:
        return nobody_listens(address)

    # ---- both --------------------------------------------------------------------------------------------------------

    def _begin(self, port: Port, stream: Stream) -> None:
        slot_bytes = self._settings.chunk_bytes if stream.socket.family == socket.AF_UNIX else 0
        limit = self._settings.max_frame_bytes
        lane = StreamLane(port, stream, self._threads, self._ended, limit, slot_bytes)
        port.plugged(lane)
        try:
            with self._lock:
                if self._closing.is_set():
                    raise RuntimeError("the endpoint is closing")
                self._lanes.add(lane)
                lane.begin()
        except RuntimeError as error:  # or the system has no thread
            self._ended(lane)
            stream.close()
            port.broken(str(error))

    def _ended(self, lane: StreamLane) -> None:
        with self._lock:
            self._lanes.discard(lane)

    def close(self) -> None:
        with self._lock:
            self._closing.set()
            lanes = list(self._lanes)
        for listener, _ in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
        for lane in lanes:
            lane.close()
        self._threads.join()
        for listener, path in self._listeners:
            listener.close()
            if path and os.path.exists(path):
                os.unlink(path)
        self._listeners.clear()


def _targets(address: str) -> list[Target]:
    """What an address may mean. Raises OSError when the host is not known."""
    path = unix_address(address)
    if path is not None:
        return [(socket.AF_UNIX, path)]
    found = socket.getaddrinfo(*tcp_address(address), type=socket.SOCK_STREAM)
    return [(family, to) for family, _, _, _, to in found]
