"""How links behave: one frozen dataclass, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distgrad.errors import ConfigError
from distgrad.wire.encodings import ENCODINGS

from .addresses import is_local, require_address

# Lanes that are faster than gRPC, the best first.
KINDS = ("unix", "tcp")

MiB = 2**20
GiB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """Files, in PEM, that make links private.

    Attributes:
        certificate, key: of this process; a process that only opens links may have neither.
        authority: certificates that vouch for peers. A listener that has it lets in only peers with a certificate
            (mTLS).
        server_name: name to expect in a listener's certificate instead of the host in its address.
    """

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("tls: certificate and key go together, found only one of them")
        for path in (self.certificate, self.key, self.authority):
            if path is not None and not Path(path).is_file():
                raise ConfigError(f"tls: {path} is not a file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lossy:
    """Encodings that make large arrays of floats smaller on their way to other processes, and cost digits: see
    `distgrad.wire.encodings`. Each process says what it sends; whoever receives reads any of them.

    With one, where shards are placed does change the last bits: what stays within a process is not encoded.

    Attributes:
        values: encoding of what calls take along and bring back: "bf16", "fp16" or "int8"; empty: as it is.
        gradients: encoding of gradients; what it leaves out of one is added to the next (error feedback).
        peers: names of the processes that links with encodings lead to; empty: all.
    """

    values: str = ""
    gradients: str = ""
    peers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("values", "gradients"):
            if getattr(self, name) not in ("", *ENCODINGS):
                found = getattr(self, name)
                raise ConfigError(f"lossy {name} = {found!r}, expected {', '.join(ENCODINGS)}, or nothing")
        object.__setattr__(self, "peers", tuple(self.peers))

    def concerns(self, peer: str) -> bool:
        return not self.peers or peer in self.peers


LOSSLESS = Lossy()


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    """Settings of an endpoint. Times are in seconds, sizes in bytes.

    Attributes:
        cluster: both ends of a link name the same one.
        token: the cluster's shared secret.
        client_tokens: further tokens, with which a peer may only be a client.
        heartbeat: how often each side says that it lives.
        silence: after this long without a frame the peer is lost.
        reconnect_window: after this long without a connection the peer is lost.
        connect_timeout: how long to wait for a new link unless the caller says.
        max_frame_bytes: largest frame sent or accepted.
        chunk_bytes: larger arrays travel in chunks of this size. gRPC shows nothing of a message before it is whole, so
            there one that takes longer than `silence` counts as silence.
        window_bytes: array bytes in flight above which `send` waits.
        max_transfer_bytes: chunked arrays under way to us on one link, all together.
        max_links: links at a time; connections on which no link has been agreed yet may be as many again.
        fast_lanes: kinds of lanes, beside gRPC, that links may use: "unix" (to processes of this machine, with shared
            memory) and "tcp". None are listened for, offered or taken but these.
        tls: None for links in the clear.
        insecure: allow listening and connecting beyond this machine without TLS.
        lossy: smaller arrays with fewer digits; none by default.
    """

    cluster: str = "distgrad"
    token: str = field(default="", repr=False)
    client_tokens: tuple[str, ...] = field(default=(), repr=False)
    heartbeat: float = 1.0
    silence: float = 3.0
    reconnect_window: float = 2.0
    connect_timeout: float = 5.0
    max_frame_bytes: int = 16 * MiB
    chunk_bytes: int = MiB
    window_bytes: int = 64 * MiB
    max_transfer_bytes: int = 16 * GiB
    max_links: int = 1024
    fast_lanes: tuple[str, ...] = KINDS
    tls: TLS | None = None
    insecure: bool = False
    lossy: Lossy = LOSSLESS

    def __post_init__(self) -> None:
        self._require(bool(self.cluster), "cluster", "a name")
        self._require(isinstance(self.token, str), "token", "text")
        self._require(isinstance(self.lossy, Lossy), "lossy", "dg.Lossy(...)")
        for name in ("heartbeat", "silence", "reconnect_window", "connect_timeout"):
            self._require(getattr(self, name) > 0, name, "more than 0 seconds")
        for name in ("chunk_bytes", "window_bytes", "max_transfer_bytes", "max_links"):
            self._require(getattr(self, name) > 0, name, "more than 0")
        object.__setattr__(self, "fast_lanes", tuple(self.fast_lanes))
        self._require(set(self.fast_lanes) <= set(KINDS), "fast_lanes", f"of {', '.join(KINDS)}")
        self._require(self.silence >= 2 * self.heartbeat, "silence", "at least two heartbeats")
        # A frame holds the arrays that are not chunked, up to a chunk together, and its headers.
        self._require(self.max_frame_bytes >= 4 * self.chunk_bytes, "max_frame_bytes", "at least 4 × chunk_bytes")
        self._require(self.max_frame_bytes <= GiB, "max_frame_bytes", "at most 1 GiB")

    def _require(self, good: bool, name: str, expected: str) -> None:
        if not good:
            raise ConfigError(f"transport setting {name} = {getattr(self, name)!r}, expected {expected}")

    @classmethod
    def for_tests(cls, **changes: Any) -> TransportSettings:
        """Quick heartbeats and small chunks, so that tests meet every path soon."""
        quick: dict[str, Any] = {
            "cluster": "test",
            "token": "test-token",
            "heartbeat": 0.1,
            "silence": 3.0,
            "reconnect_window": 2.0,
            "chunk_bytes": 4096,
            "max_frame_bytes": MiB,
            "window_bytes": 4 * MiB,
        }
        return cls(**(quick | changes))

    def require_safe(self, address: str) -> None:
        """Refuses an address off this machine when links to it would be in the clear, and what is no address.

        Raises:
            ConfigError: and says which settings allow it, or what an address looks like.
        """
        require_address(address)
        if self.tls is None and not self.insecure and not is_local(address):
            raise ConfigError(
                f"links at {address} would leave this machine unencrypted: "
                "set tls, or insecure=True (--insecure) on a network you trust"
            )

    def require_guarded(self, address: str) -> None:
        """Refuses to listen at an address off this machine when anyone could join. Raises ConfigError."""
        self.require_safe(address)
        vouched = self.token or (self.tls is not None and self.tls.authority is not None)
        if not vouched and not self.insecure and not is_local(address):
            raise ConfigError(f"anyone who reaches {address} could join: set a token or tls.authority")
