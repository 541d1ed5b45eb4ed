"""Shared memory for the arrays of a request to the gradient service and of its response, on one machine.

    | payload of the request | to a multiple of 64 | room for the payload of the response |

A block belongs to whoever makes requests, is lent with each of them by passing its descriptor along, and is used again:
its pages exist, so writing costs no more than into ordinary memory that was used before. It is sealed, because memory
cut short by one process would kill another that reads it. What is in it is only ever data.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress

from distgrad.errors import WireError
from distgrad.wire.frames import ALIGNMENT, Buffer

from .buffers import copy_into

# Payloads up to this size travel in their messages.
WORTH_A_BLOCK = 2**15
# The smallest block; all others are this times a power of two.
SMALLEST = 2**18


class Block:
    """Memory of this process that others may be lent.

    Attributes:
        size: in bytes.
        descriptor: what is passed along.
        shared: with whoever is lent it; False: it is this process's alone, and cannot be lent any more.
    """

    def __init__(self, size: int) -> None:
        """Raises OSError when the system has no such memory to give."""
        self.size = size
        self.shared = True
        self.descriptor = os.memfd_create("distgrad", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.descriptor, size)
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)
            self._memory = mmap.mmap(self.descriptor, size)
        except BaseException:
            os.close(self.descriptor)
            raise

    def put(self, pieces: Sequence[Buffer], at: int = 0) -> None:
        """Writes pieces one after the other."""
        put(memoryview(self._memory), pieces, at)

    def view(self, start: int, size: int) -> memoryview:
        """Some of its bytes; the memory exists as long as the view, and is used again when the block is given back."""
        return memoryview(self._memory)[start : start + size]

    def make_private(self) -> None:
        """Makes its memory like any other of this process, of which one that is forked gets a copy: what is written to
        it from now on is seen by the writer alone. Nobody may be writing to it. Raises OSError."""
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        access = mmap.PROT_READ | mmap.PROT_WRITE
        if _map(address, self.size, access, mmap.MAP_PRIVATE | _MAP_FIXED, self.descriptor, 0) != address:
            raise OSError(ctypes.get_errno(), "memory cannot be mapped anew")
        self.shared = False

    def close(self) -> None:
        os.close(self.descriptor)
        with suppress(BufferError):  # views of it are about, and the memory lives as long as they
            self._memory.close()

    def __repr__(self) -> str:
        return f"<Block of {self.size} bytes>"


class BlockPool:
    """Blocks to be used again. For one thread at a time.

    Arguments:
        keep_bytes: of blocks that nobody uses, at most.
    """

    def __init__(self, keep_bytes: int = 2**28) -> None:
        self._keep_bytes = keep_bytes
        self._kept = 0
        self._free: dict[int, list[Block]] = {}

    def take(self, size: int) -> Block:
        """A block of at least `size` bytes. Raises OSError when the system has no such memory to give."""
        fitting = SMALLEST
        while fitting < size:
            fitting *= 2
        free = self._free.get(fitting)
        if free:
            self._kept -= fitting
            return free.pop()
        return Block(fitting)

    def give_back(self, block: Block) -> None:
        """Nobody reads or writes the block any more."""
        if self._kept + block.size > self._keep_bytes or not block.shared:
            block.close()
            return
        self._kept += block.size
        self._free.setdefault(block.size, []).append(block)

    def close(self) -> None:
        """Blocks that are given back later are not kept."""
        self._keep_bytes = 0
        for blocks in self._free.values():
            for block in blocks:
                block.close()
        self._free.clear()


class LentBlocks:
    """Blocks of other processes, as this one sees them. What was seen lately stays mapped. For one thread at a time.

    Arguments:
        keep: how many stay.
    """

    def __init__(self, keep: int = 16) -> None:
        self._keep = keep
        self._maps: OrderedDict[tuple[int, int], mmap.mmap] = OrderedDict()

    def view(self, descriptor: int) -> memoryview:
        """The whole memory behind a descriptor, which may be closed afterwards.

        Raises:
            WireError: it is no sealed memory.
        """
        status = os.fstat(descriptor)
        # No other block has this number as long as this one is mapped.
        key = status.st_dev, status.st_ino
        memory = self._maps.get(key)
        if memory is None or len(memory) < status.st_size:  # it has grown since
            require_sealed(descriptor)
            memory = mmap.mmap(descriptor, status.st_size)
            self._maps[key] = memory
            if len(self._maps) > self._keep:
                _, oldest = self._maps.popitem(last=False)
                with suppress(BufferError):  # views of it are about, and the memory lives as long as they
                    oldest.close()
        else:
            self._maps.move_to_end(key)
        return memoryview(memory)

    def close(self) -> None:
        for memory in self._maps.values():
            with suppress(BufferError):
                memory.close()
        self._maps.clear()


def require_sealed(descriptor: int) -> int:
    """The size of the memory behind a descriptor. Raises WireError when it is no memory that cannot be cut short, or
    none that can be written to."""
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError:
        seals = 0
    size = os.fstat(descriptor).st_size
    if not seals & fcntl.F_SEAL_SHRINK or not size:
        raise WireError("a descriptor that came along is no memory, is empty, or could be cut short")
    if seals & _WRITE_SEALS or fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR:
        raise WireError("memory came along that cannot be written to")
    return size


def room_behind(size: int) -> int:
    """Where in a block the response's payload begins when the request's has `size` bytes."""
    return size + -size % ALIGNMENT


def put(memory: memoryview, pieces: Sequence[Buffer], at: int) -> None:
    """Writes pieces one after the other."""
    for piece in pieces:
        copy_into(memory[at : at + len(piece)], piece)
        at += len(piece)


_SEALS = getattr(fcntl, "F_SEAL_SEAL", 0) | getattr(fcntl, "F_SEAL_SHRINK", 0) | getattr(fcntl, "F_SEAL_GROW", 0)
# With F_SEAL_FUTURE_WRITE, which Python 3.11 has no name for.
_WRITE_SEALS = getattr(fcntl, "F_SEAL_WRITE", 0) | 0x10

# mmap at a given address, which Python's own module does not offer.
_map = ctypes.CDLL(None, use_errno=True).mmap
_map.restype = ctypes.c_void_p
_map.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_MAP_FIXED = 0x10
