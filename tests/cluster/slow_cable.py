"""A cable between two network namespaces that takes time: what enters at one end leaves at the other a while later.

    python slow_cable.py NAMESPACE DEVICE NAMESPACE DEVICE SECONDS

Makes a TAP device at each end, says "ready", and carries frames until it is ended. Needs root. (The kernel's own way,
`tc netem`, is not in every kernel.)
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_TAP_WITHOUT_HEADER = 0x0002 | 0x1000
_LONGEST_FRAME = 65536


def tap(namespace: str, device: str) -> int:
    """A descriptor of a new TAP device in a namespace, into which this process moves."""
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(there, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"no way into namespace {namespace}")
    os.close(there)
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _TAP_WITHOUT_HEADER))
    return end


def carry(ends: tuple[int, int], seconds: float) -> None:
    """Carries frames both ways, for ever. All take the same time, so each way is a queue."""
    under_way: dict[int, deque[tuple[float, bytes]]] = {end: deque() for end in ends}
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    while True:
        now = time.monotonic()
        for end, frames in under_way.items():
            while frames and frames[0][0] <= now:
                try:
                    os.write(end, frames.popleft()[1])
                except OSError:  # the device is down, or its queue full: a cable loses what it cannot carry
                    break
        due = min((frames[0][0] for frames in under_way.values() if frames), default=now + 1)
        for end in select.select(ends, [], [], max(due - now, 0))[0]:
            try:
                under_way[other[end]].append((time.monotonic() + seconds, os.read(end, _LONGEST_FRAME)))
            except OSError:
                time.sleep(0.001)


if __name__ == "__main__":
    one, its_device, another, its_other_device, seconds = sys.argv[1:]
    ends = tap(one, its_device), tap(another, its_other_device)
    print("ready", flush=True)
    carry(ends, float(seconds))
