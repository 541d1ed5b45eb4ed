"""Addresses: where a process listens.

What comes first says how frames travel there:

    HOST:PORT           gRPC over TCP
    unix:/PATH          gRPC over a Unix socket
    socket:HOST:PORT    frames over a TCP socket
    socket:/PATH        frames over a Unix socket
    socket:@NAME        the same, under a name that is no file and goes with its process (Linux)
    memory:NAME         a test's network

The lanes at "socket:" are found by themselves (`offers`); users name the others.
"""

from __future__ import annotations

import ipaddress
import os
import socket

from distgrad.errors import ConfigError, LinkError

# Length of a Unix socket's path, in bytes, that every system takes.
MAX_PATH = 103
MAX_PORT = 65535
# A probe that takes longer than this has found no certainty that nobody is there.
PROBE_TIMEOUT = 0.5


def unix_address(address: str) -> str | bytes | None:
    """The path or abstract name of a Unix socket; None for other addresses."""
    scheme, _, rest = address.partition(":")
    if scheme == "socket" and rest.startswith("@"):
        return b"\0" + rest[1:].encode()
    if scheme == "unix" or (scheme == "socket" and rest.startswith("/")):
        return rest
    return None


def tcp_address(address: str) -> tuple[str, int]:
    """Host and port. Raises ConfigError when the address has none, or its port is beyond those there are."""
    host, _, port = address.removeprefix("socket:").rpartition(":")
    if not (host and port.isdecimal()):
        raise ConfigError(f"{address!r} is no address: expected HOST:PORT or unix:/PATH")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ConfigError(
            f"{address!r} is no address: expected HOST:PORT, with an IPv6 address in brackets, or unix:/PATH"
        )
    if int(port) > MAX_PORT:  # gRPC would take its lower 16 bits
        raise ConfigError(f"{address!r} is no address: ports end at {MAX_PORT}")
    return host.strip("[]"), int(port)


def require_address(address: str) -> None:
    """Raises ConfigError for what is no address."""
    if not isinstance(address, str):
        raise ConfigError(f"{address!r} is no address: expected text, HOST:PORT or unix:/PATH")
    if not address.startswith("memory:") and unix_address(address) is None:
        tcp_address(address)


def is_local(address: str) -> bool:
    """Whether an address cannot be reached from another machine: a Unix socket, memory, or loopback."""
    if address.startswith("memory:") or unix_address(address) is not None:
        return True
    host = address.removeprefix("socket:").rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def advertised(bound: str, wish: str = "") -> str:
    """What others are told of a process that listens at `bound`: empty when that is every address of the machine.

    Arguments:
        wish: "HOST:PORT" or "HOST" at which others reach it, when they do not reach it at `bound`.
    """
    host, _, port = bound.rpartition(":")
    if not wish:
        return "" if host.strip("[]") in ("0.0.0.0", "::") else bound
    if wish.endswith("]") or ":" not in wish:
        return f"{wish}:{port}"
    tcp_address(wish)
    return wish


def nobody_listens(address: str) -> bool:
    """True when it is certain that nobody listens at an address; False when unsure."""
    path = unix_address(address)
    try:
        if path is not None:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(PROBE_TIMEOUT)
                probe.connect(path)
        else:
            socket.create_connection(tcp_address(address), PROBE_TIMEOUT).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except (OSError, ConfigError):
        return False
    return False


def free_path(address: str) -> None:
    """Makes sure that a Unix socket can be bound at a path: what a killed process left there may be replaced.

    Raises:
        ConfigError: the path is too long.
        LinkError: somebody listens there.
    """
    path = unix_address(address)
    if not isinstance(path, str):
        return
    if len(path.encode()) > MAX_PATH:
        raise ConfigError(f"{address}: a Unix socket's path may have {MAX_PATH} bytes, found {len(path.encode())}")
    if os.path.exists(path) and not nobody_listens(address):
        raise LinkError(f"cannot listen at {address}: another process listens there")
