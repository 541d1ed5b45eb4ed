"""Lanes over gRPC: one bidirectional stream of frames, over TCP or a Unix socket. Works wherever gRPC does."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from distgrad.errors import ConfigError, LinkError

from .addresses import free_path, nobody_listens
from .credentials import server_credentials
from .grpc_channel import open_channel
from .grpc_health import HealthHandlers
from .health import Health
from .interfaces import Port
from .settings import TransportSettings
from .threads import ThreadForEach, Threads

METHOD = "/distgrad.v1.LinkService/Open"
# How long a stream that was told to end may take.
GRACE = 1.0

logger = logging.getLogger("distgrad.transport")


class GrpcLane:
    """Implements `Lane` for both ends of a stream. gRPC asks for the frames to send by iterating over `frames`."""

    def __init__(self, port: Port, cancel: Callable[[], Any]) -> None:
        self._port = port
        self._cancel = cancel
        self._signals: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._signalled = False
        self._closed = threading.Event()

    def wake(self) -> None:
        # At most one signal waits. It is taken back before the port is asked, so what comes later signals again.
        if not self._signalled:
            self._signalled = True
            self._signals.put(None)

    def close(self) -> None:
        self._closed.set()
        self._signals.put(None)
        self._cancel()

    def relieve(self, now: float) -> None:
        """Its readers do nothing else."""

    def frames(self) -> Iterator[bytes]:
        while not self._closed.is_set():
            self._signals.get()
            self._signalled = False
            while not self._closed.is_set() and (frames := self._port.take()):
                for pieces in frames:
                    yield bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
            if self._port.finished:
                return

    def read(self, frames: Iterator[bytes]) -> None:
        """Gives the port what arrives until the stream ends."""
        reason = "the stream ended"
        try:
            for frame in frames:
                self._port.received(frame)
        except grpc.RpcError as error:
            reason = _details(error)
        except Exception as error:  # on the listener's side gRPC raises a bare Exception when the stream is cancelled
            reason = f"the stream broke: {error}" if str(error) else "the stream broke"
        finally:
            self._closed.set()
            self._signals.put(None)
            self._port.broken(reason)


def _details(error: grpc.RpcError) -> str:
    code = getattr(error, "code", lambda: None)()
    details = getattr(error, "details", lambda: "")()
    return f"{code.name if code else 'error'}: {details}"


class GrpcLanes:
    """Implements `Lanes`. All threads are daemons: a process that forgets to close can still end."""

    def __init__(self, settings: TransportSettings, health: Health) -> None:
        self._settings = settings
        self._health = health
        self._servers: list[tuple[grpc.Server, str]] = []
        self._lanes: set[GrpcLane] = set()
        self._threads = Threads()
        self._lock = threading.Lock()

    # ---- listening

    def listen(self, address: str, accept: Callable[[], Port]) -> str:
        path = _socket_path(address)
        # gRPC would take a living listener's path away without a word.
        free_path(address)
        links = _Handlers(lambda frames, context: self._serve(accept(), frames, context))
        handlers = [links, HealthHandlers(self._health)]
        options = [*self._options(), ("grpc.so_reuseport", 0)]
        server = grpc.server(ThreadForEach(self._threads), handlers, options=options)
        try:
            port = self._bind(server, address)
        except RuntimeError as error:
            raise LinkError(f"cannot listen at {address}: the address is taken or not of this machine") from error
        server.start()
        self._servers.append((server, path or ""))
        return address if path is not None else f"{address.rpartition(':')[0]}:{port}"

    def _bind(self, server: grpc.Server, address: str) -> int:
        tls = self._settings.tls
        if tls is None or _socket_path(address) is not None:
            return int(server.add_insecure_port(address))
        if tls.certificate is None or tls.key is None:
            raise ConfigError(f"listening at {address} with TLS needs tls.certificate and tls.key")
        return int(server.add_secure_port(address, server_credentials(tls)))

    def _serve(self, port: Port, frames: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        lane = GrpcLane(port, context.cancel)
        self._add(lane)
        context.add_callback(lambda: lane.wake())
        port.plugged(lane)
        self._threads.start("distgrad-reader", self._read, lane, frames)
        yield from lane.frames()

    # ---- opening

    def open(self, address: str, port: Port) -> None:
        channel = open_channel(address, self._settings, self._options())
        stream = channel.stream_stream(METHOD)
        lane = GrpcLane(port, channel.close)
        self._add(lane)
        frames = stream(lane.frames())
        port.plugged(lane)
        self._threads.start("distgrad-reader", self._read_then_close, lane, frames, channel)

    def vacant(self, address: str) -> bool:
        return nobody_listens(address)

    # ---- both

    def _options(self) -> list[tuple[str, Any]]:
        # Heartbeats of our own see a silent peer sooner than HTTP/2 pings do, so keepalive stays off.
        room = self._settings.max_frame_bytes + 1024
        return [("grpc.max_receive_message_length", room), ("grpc.max_send_message_length", room)]

    def _add(self, lane: GrpcLane) -> None:
        with self._lock:
            self._lanes.add(lane)

    def _read(self, lane: GrpcLane, frames: Iterator[bytes]) -> None:
        lane.read(frames)
        with self._lock:
            self._lanes.discard(lane)

    def _read_then_close(self, lane: GrpcLane, frames: Iterator[bytes], channel: grpc.Channel) -> None:
        self._read(lane, frames)
        channel.close()

    def close(self) -> None:
        with self._lock:
            lanes = list(self._lanes)
        for lane in lanes:
            lane.close()
        for server, _ in self._servers:
            server.stop(GRACE).wait()
        self._threads.join()
        for _, path in self._servers:
            if path and os.path.exists(path):
                os.unlink(path)
        self._servers.clear()


def _socket_path(address: str) -> str | None:
    return address.removeprefix("unix:") if address.startswith("unix:") else None


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves the one method, with bytes as they are: the codec is ours."""

    def __init__(self, serve: Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]) -> None:
        self._handler = grpc.stream_stream_rpc_method_handler(serve)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handler if details.method == METHOD else None
