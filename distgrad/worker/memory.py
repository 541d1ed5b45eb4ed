"""The C allocator's settings."""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8

_KEEP = 2**30


def keep_freed_memory() -> bool:
    """Lets glibc keep the memory of freed arrays for the next ones, instead of giving it back to the system.

    By default every large array is mapped anew and each of its pages faults when first touched, which costs more than
    copying it. All three settings are needed, before threads start. Returns False where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _KEEP))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
