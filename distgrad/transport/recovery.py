"""How a link changes its lane: to a better one, and after a break to the same or another."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from distgrad.errors import DistgradError, PermissionDenied, WorkerLost

if TYPE_CHECKING:
    from .endpoint import Endpoint
    from .link import ProcessLink

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.2
# Seconds for a lane other than gRPC to come about.
TO_A_FASTER_LANE = 1.0

logger = logging.getLogger("distgrad.transport")


def move(endpoint: Endpoint, link: ProcessLink, addresses: list[str]) -> None:
    """Takes up the session of a link that gRPC has opened over the first of `addresses` that works."""
    for address in addresses:
        try:
            with link.changing_lanes:
                if link.ending or link.leaving:
                    return
                endpoint.resume(link, address, TO_A_FASTER_LANE)
            link.lane_address = address
            return
        except (DistgradError, TimeoutError) as error:
            logger.warning("%r does not move to %s: %s", link, address, str(error) or "no answer came in time")


def recover(endpoint: Endpoint, link: ProcessLink, reason: str) -> None:
    """Runs in a thread of its own until the link is connected again or ended.

    The side that opened the link opens it again; the other side waits for that. Both give up after the reconnect
    window, and at once when the peer is certainly gone: nobody listens where it listened, or somebody else does.
    """
    deadline = time.monotonic() + endpoint.settings.reconnect_window
    address = link.opened_at or link.peer.address
    pause = FIRST_PAUSE
    while not (link.connected or link.ending or link.leaving):
        left = deadline - time.monotonic()
        if left <= 0:
            window = endpoint.settings.reconnect_window
            endpoint.lose(link, f"the connection broke ({reason}) and was not made again within {window:g} s")
            return
        if address and endpoint.lanes.vacant(address):
            broken = f"the connection broke ({reason}) and nobody listens at {address} any more"
            endpoint.lose(link, endpoint.explain(link.peer, broken))
            return
        if link.opened_at:
            try:
                _resume(endpoint, link, left)
                return
            except (WorkerLost, PermissionDenied) as error:
                endpoint.lose(link, str(error))
                return
            except (DistgradError, TimeoutError) as error:
                reason = str(error) or reason
        if endpoint.closing.wait(min(pause, left)):
            return
        pause = min(2 * pause, LONGEST_PAUSE)


def _resume(endpoint: Endpoint, link: ProcessLink, left: float) -> None:
    """Takes the session up again over a lane like the last one, else as it was opened. Raises as `Endpoint.resume`."""
    with link.changing_lanes:
        if link.connected or link.leaving:  # it broke because it was about to move, or has said goodbye meanwhile
            return
        if link.lane_address != link.opened_at:
            try:
                endpoint.resume(link, link.lane_address, min(left / 2, TO_A_FASTER_LANE))
                return
            except (WorkerLost, PermissionDenied):
                raise
            except (DistgradError, TimeoutError) as error:
                logger.warning("%r goes on with gRPC: %s", link, str(error) or "no answer came in time")
        endpoint.resume(link, link.opened_at, left)
