"""The way to a coordinator on another machine: whether it is there, and where it reaches us."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from distgrad.errors import LinkError
from distgrad.transport.addresses import tcp_address, unix_address

Announce = Callable[[str], None]

# Seconds between two looks whether somebody is there, and for each of them.
_BETWEEN_LOOKS = 0.5
_FOR_A_LOOK = 2.0


def await_listener(address: str, patience: float, announce: Announce) -> None:
    """Returns when somebody listens at an address; says so when it has to wait.

    Raises:
        LinkError: nobody came.
        ConfigError: it is no address.
    """
    if unix_address(address) is not None:
        return
    host, port = tcp_address(address)
    deadline = time.monotonic() + patience
    waiting = False
    while True:
        try:
            socket.create_connection((host, port), _FOR_A_LOOK).close()
            return
        except OSError as error:
            if time.monotonic() >= deadline:
                raise LinkError(
                    f"no coordinator is at {address}, after {patience:g} s: {error}. Start it with `distgrad "
                    f"coordinator --listen ...`, or wait longer for it with --patience"
                ) from error
            if not waiting:
                announce(f"waiting up to {patience:g} s for the coordinator at {address}: {error}")
            waiting = True
        time.sleep(_BETWEEN_LOOKS)  # nothing tells that somebody listens over there


def own_host_towards(address: str) -> str:
    """The address of this machine on the way to another."""
    try:
        found = socket.getaddrinfo(*tcp_address(address), type=socket.SOCK_DGRAM)
        family, kind, protocol, _, target = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)  # sends nothing: the system only chooses the way
            own = probe.getsockname()[0]
    except OSError as error:
        raise LinkError(f"{address} does not lead to a coordinator: {error}") from error
    return f"[{own}]" if ":" in own else own
