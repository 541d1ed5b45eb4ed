"""Memory for what arrives, and copying into it."""

from __future__ import annotations

import numpy as np

from distgrad.wire.frames import ALIGNMENT, Buffer

# More than this is copied while other threads go on; for less, letting go of the interpreter costs more than it gives.
SMALL = 2**15


def aligned(size: int) -> memoryview:
    """Fresh memory that begins at a multiple of 64, so that arrays at such offsets in it do too."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.__array_interface__["data"][0] % ALIGNMENT
    return memory[start : start + size].data


def copied(piece: Buffer) -> memoryview:
    """A copy in memory of its own."""
    copy = aligned(len(piece))
    copy_into(copy, piece)
    return copy


def copy_into(target: memoryview, piece: Buffer) -> None:
    """Copies bytes to a place of the same size."""
    if len(piece) <= SMALL:
        target[:] = piece
    else:
        np.copyto(np.frombuffer(target, np.uint8), np.frombuffer(piece, np.uint8))
