"""Faster lanes than gRPC: where a listener has them, and which of them an opener takes.

Who listens with gRPC at "unix:/PATH" listens for lanes beside it, at "/PATH.lane": openers try that first. Who listens
at "HOST:PORT" offers, in the handshake, a Unix socket to processes of the same machine and a TCP port to others. A link
that gRPC has opened then moves: its session is taken up again over the better lane, as it is after a break.
"""

from __future__ import annotations

import functools
import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from distgrad.errors import DistgradError
from distgrad.wire import pb

from .addresses import tcp_address, unix_address
from .interfaces import Lanes, Port
from .settings import KINDS

logger = logging.getLogger("distgrad.transport")


def lane_beside(address: str) -> str:
    """Where lanes are listened for beside gRPC at a Unix socket; empty for other addresses."""
    return f"socket:{address.removeprefix('unix:')}.lane" if address.startswith("unix:") else ""


def listen_beside(
    lanes: Lanes, bound: str, kinds: Iterable[str], fresh: Callable[[str], Port], moved: Callable[[str], Port]
) -> list[pb.Offer]:
    """Listens for faster lanes to a process that listens with gRPC at `bound`; returns what to offer openers there.

    Arguments:
        fresh, moved: make the port of a lane at an address; `moved` one that only takes up sessions opened elsewhere,
            because what lets strangers in there, TLS perhaps, does not guard this address.
    """
    offers = []
    if beside := lane_beside(bound):
        if "unix" in kinds:
            _listen(lanes, beside, fresh)
    elif not bound.startswith(("socket:", "memory:")):
        if "unix" in kinds and sys.platform.startswith("linux"):
            name = f"@distgrad-{secrets.token_hex(8)}"
            if _listen(lanes, f"socket:{name}", moved):
                offers.append(pb.Offer(kind="unix", path=name, host=this_machine()))
        if "tcp" in kinds:
            host = bound.rpartition(":")[0]
            if taken := _listen(lanes, f"socket:{host}:0", moved):
                offers.append(pb.Offer(kind="tcp", port=tcp_address(taken)[1]))
    return offers


def _listen(lanes: Lanes, address: str, accept: Callable[[str], Port]) -> str:
    try:
        return lanes.listen(address, lambda: accept(address))
    except DistgradError as error:
        logger.warning("no faster lanes than gRPC at %s: %s", address, error)
        return ""


def choose(offers: Iterable[pb.Offer], reached_at: str, kinds: Iterable[str]) -> list[str]:
    """The addresses an opener may move to, the best first.

    Arguments:
        reached_at: the gRPC address at which it got the offers.
        kinds: of lanes that this side takes.
    """
    addresses = []
    for offer in sorted(offers, key=lambda offer: KINDS.index(offer.kind) if offer.kind in KINDS else len(KINDS)):
        if offer.kind not in kinds:
            continue
        if offer.kind == "unix" and offer.host == this_machine():
            addresses.append(f"socket:{offer.path}")
        elif offer.kind == "tcp" and unix_address(reached_at) is None:
            addresses.append(f"socket:{reached_at.rpartition(':')[0]}:{offer.port}")
    return addresses


@functools.cache
def this_machine() -> str:
    """Equal for two processes exactly when an abstract Unix socket of one can be reached by the other."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{started} {os.readlink('/proc/self/ns/net')}"
    except OSError:
        return f"unknown {secrets.token_hex(8)}"
