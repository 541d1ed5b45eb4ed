"""How the service behaves: one frozen dataclass, checked when it is made."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from distgrad.errors import ConfigError
from distgrad.transport.addresses import is_local, require_address
from distgrad.transport.settings import TLS

# Processes of this machine.
_MOST_WORKERS = 1000

MiB = 2**20
GiB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """Settings of a server. Times are in seconds, sizes in bytes.

    Attributes:
        workers: processes that run requests.
        blas_threads: threads for matrix products, in each of them.
        tls: certificate and key of the server; with an authority, only clients with a certificate are let in.
        tokens: file of tokens and their roles; None: whoever reaches the server may use it.
        insecure: listen off this machine without TLS.
        max_message_bytes: of one gRPC message. What is larger goes in chunks. gRPC's own limit where none is set.
        max_request_bytes: of all arrays of a request.
        max_queued: requests that wait, of all clients.
        max_queued_per_client: requests of one client that wait or run.
        max_bytes_per_client: of the arrays of these requests.
        max_streams_per_client: over gRPC; each may hold one request's arrays that are still coming. Local connections,
            which only processes of the server's own user can make, are not counted: arrays stay in their memory.
        max_sessions, max_sessions_per_client: linearisations that are kept.
        lease: a session that is not used for so long is forgotten.
        max_batch: requests that are computed as one.
        attempts: how often a request is started, when the process that runs it is lost.
        grace: how long a process may go on with a request that was given up, before it is killed.
        drain: how long requests may go on when the server was told to end.
        local_socket: offer clients on this machine a Unix socket.
    """

    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    blas_threads: int = 1
    tls: TLS | None = None
    tokens: Path | None = None
    insecure: bool = False
    max_message_bytes: int = 4 * MiB
    max_request_bytes: int = GiB
    max_queued: int = 1024
    max_queued_per_client: int = 256
    max_bytes_per_client: int = 4 * GiB
    max_streams_per_client: int = 16
    max_sessions: int = 256
    max_sessions_per_client: int = 32
    lease: float = 60.0
    max_batch: int = 64
    attempts: int = 3
    grace: float = 5.0
    drain: float = 30.0
    local_socket: bool = True

    def __post_init__(self) -> None:
        for name in ("workers", "blas_threads", "max_queued", "max_queued_per_client", "max_batch", "attempts"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, and a whole number, found {getattr(self, name)!r}")
        if self.workers > _MOST_WORKERS:
            raise ConfigError(f"workers must be at most {_MOST_WORKERS}, found {self.workers}: each is a process")
        for name in ("max_request_bytes", "max_sessions_per_client", "lease", "grace"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be more than 0, found {getattr(self, name)}")
        if not self.drain >= 0:
            raise ConfigError(f"drain must be at least 0, found {self.drain}")
        if self.max_message_bytes < 64 * 1024:
            raise ConfigError(f"max_message_bytes must be at least 64 KiB, found {self.max_message_bytes}")
        if self.tls is not None and self.tls.certificate is None:
            raise ConfigError("a server with TLS needs a certificate and its key")

    def require_safe(self, address: str) -> None:
        """Refuses to listen off this machine in the clear, or at what is no address. Raises ConfigError."""
        require_address(address)
        if self.tls is None and not self.insecure and not is_local(address):
            raise ConfigError(
                f"requests to {address} would cross the network unencrypted: give --tls-cert and --tls-key "
                "(`distgrad certs DIR` makes some), or --insecure on a network you trust"
            )


@dataclass(frozen=True, kw_only=True)
class ServingOrders:
    """What a process of the pool must know. See `distgrad.worker.child`.

    Attributes:
        name: of the process.
        directory: for temporary files; belongs to the server and is removed with it.
        socket: abstract name of the Unix socket that requests come from.
        ticket: what to say there first, as hexadecimal digits.
        targets: what to serve.
        lease: how long a session lives unused; told to clients.
        max_bytes: of a message.
    """

    name: str
    directory: str
    socket: str
    ticket: str
    targets: list[str]
    lease: float
    max_bytes: int
