"""What happens to a link whose lane broke: it is taken up again, or its peer is lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from distgrad.errors import DistgradError, PermissionDenied, WorkerLost

if TYPE_CHECKING:
    from .endpoint import Endpoint
    from .link import ProcessLink

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.2


def recover(endpoint: Endpoint, link: ProcessLink, reason: str) -> None:
    """Runs in a thread of its own until the link is connected again or ended.

    The side that opened the link opens it again; the other side waits for that. Both give up after the reconnect
    window, and at once when the peer is certainly gone: nobody listens where it listened, or somebody else does.
    """
    deadline = time.monotonic() + endpoint.settings.reconnect_window
    address = link.opened_at or link.peer.address
    pause = FIRST_PAUSE
    while not (link.connected or link.ending):
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
                endpoint.resume(link, left)
                return
            except (WorkerLost, PermissionDenied) as error:
                endpoint.lose(link, str(error))
                return
            except (DistgradError, TimeoutError) as error:
                reason = str(error) or reason
        if endpoint.closing.wait(min(pause, left)):
            return
        pause = min(2 * pause, LONGEST_PAUSE)
