"""The C allocator's settings, which decide what a large temporary array costs."""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8

# A trim threshold without bound. Any other one would be met again and again by a program whose arrays come to more: its
# memory would be given back, and faulted in anew, in every step.
_NEVER = -1


def keep_freed_memory() -> bool:
    """Lets glibc keep the memory of freed arrays for the next ones, instead of giving it back to the system.

    By default every large array is mapped anew and each of its pages faults when first touched, which costs more than
    copying it: operations on arrays of megabytes become two to four times as fast. The process keeps the memory it once
    had until it ends. Workers do this by themselves; elsewhere, call it once, before threads start.

    One thing is beyond settings: protobuf's C code asks for a trim after every 10,000 blocks that it frees, so a worker
    faults its free memory in anew about once in a hundred microbatches.

    Returns:
        False where there is no glibc, and so nothing to set.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # All three are needed: one heap, from which large arrays come too, and which is never trimmed.
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
