"""A process at the other end of a link, to be stopped and killed: `python -m tests.transport.peer NAME HOW ADDRESS`."""

from __future__ import annotations

import sys

from distgrad.transport import Endpoint, Identity, TransportSettings
from tests.transport.recorder import Recorder


def main(name: str, how: str, address: str) -> None:
    with Endpoint(Identity.new(name, "worker"), TransportSettings.for_tests(), Recorder()) as endpoint:
        if how == "listen":
            address = endpoint.listen(address)
        else:
            endpoint.connect("here", address)
        print(address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
