"""Slots of shared memory for the payloads of large frames, between two processes of one machine.

Each side of a lane writes into slots of its own memory, in turn, and reads those of the other's. What a slot holds is
said by a frame's header, which crosses the socket; that a slot is free again is said by a number in the memory itself:

    | how many slots have been read, by their reader | rest of a page | slot 0 | slot 1 | ...

The memory is a file without a name, passed over the socket: nobody else finds it, and it is gone with the last of the
two processes, however they end. It is sealed, because a file cut short by one side would kill the other that reads it.
A reader trusts nothing else: headers are never read from here, and what changes while it is read is only data.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress

from distgrad.errors import WireError
from distgrad.wire.frames import Buffer

from .buffers import copy_into

PAGE = 4096
# Enough to keep both sides busy, few enough to stay in the processor's cache, where copying is quickest.
SLOTS = 4
MAX_SLOTS = 64
MAX_SLOT_BYTES = 2**30
# The greeting: number of slots (0: none) and the size of each. The memory's descriptor travels beside it.
_GREETING = struct.Struct("<II")
_SEALS = ("F_SEAL_SEAL", "F_SEAL_SHRINK", "F_SEAL_GROW")

logger = logging.getLogger("distgrad.transport")


class SlotWriter:
    """This side's slots. Used by one thread at a time."""

    def __init__(self, slots: int, slot_bytes: int) -> None:
        """Raises OSError when the system has no such memory to give."""
        self.slots = slots
        self.slot_bytes = slot_bytes
        self._written = 0
        self._descriptor = os.memfd_create("distgrad", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self._descriptor, PAGE + slots * slot_bytes)
            fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, _seals())
            self._memory = mmap.mmap(self._descriptor, PAGE + slots * slot_bytes)
            self._read = _counter(self._memory)
        except BaseException:
            os.close(self._descriptor)
            raise

    def announce(self, connected: socket.socket) -> None:
        """Gives the memory to the other side. Comes first on the socket."""
        try:
            socket.send_fds(connected, [_GREETING.pack(self.slots, self.slot_bytes)], [self._descriptor])
        finally:
            os.close(self._descriptor)

    @property
    def full(self) -> bool:
        """Whether all slots are waiting to be read. Raises WireError when the other side has read what was never
        written."""
        waiting = self._written - int(self._read[0])
        if not 0 <= waiting <= self.slots:
            raise WireError(f"{int(self._read[0])} slots of shared memory were read, {self._written} were written")
        return waiting == self.slots

    def put(self, pieces: Sequence[Buffer]) -> int:
        """Writes a payload into a free slot; returns the slot's number, from 1."""
        slot = self._written % self.slots
        at = PAGE + slot * self.slot_bytes
        with memoryview(self._memory) as memory:
            for piece in pieces:
                copy_into(memory[at : at + len(piece)], piece)
                at += len(piece)
        self._written += 1
        return slot + 1

    def close(self) -> None:
        _close(self._memory, self._read)


class SlotReader:
    """The other side's slots."""

    def __init__(self, slots: int, slot_bytes: int, descriptor: int) -> None:
        """Raises WireError when the memory is not what it should be."""
        size = PAGE + slots * slot_bytes
        if not (0 < slots <= MAX_SLOTS and 0 < slot_bytes <= MAX_SLOT_BYTES):
            raise WireError(f"{slots} slots of {slot_bytes} bytes of shared memory were announced")
        if os.fstat(descriptor).st_size != size or not fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
            raise WireError("the shared memory announced is of another size, or could be cut short")
        self.slots = slots
        self.slot_bytes = slot_bytes
        self._memory = mmap.mmap(descriptor, size)
        self._count = _counter(self._memory)
        self._read = 0

    def view(self, slot: int) -> memoryview:
        """What slot number `slot`, the next in turn, holds; valid until `free`. Raises WireError for another."""
        if slot != self._read % self.slots + 1:
            raise WireError(f"slot {slot} of shared memory was named, expected {self._read % self.slots + 1}")
        at = PAGE + (slot - 1) * self.slot_bytes
        return memoryview(self._memory)[at : at + self.slot_bytes].toreadonly()

    def free(self) -> None:
        """The slot viewed last may be written to again."""
        self._read += 1
        self._count[0] = self._read

    def close(self) -> None:
        _close(self._memory, self._count)


def exchange(connected: socket.socket, slot_bytes: int) -> tuple[SlotWriter | None, SlotReader | None]:
    """Gives the other side of a Unix socket our memory and takes its; None where a side has none to give.

    Raises:
        OSError: the connection ended, or this process has as many files open as it may.
        WireError: what came is no greeting.
    """
    writer = _new_writer(slot_bytes)
    if writer is not None:
        writer.announce(connected)
    else:
        connected.sendall(_GREETING.pack(0, 0))
    greeting, descriptors, _, _ = socket.recv_fds(connected, _GREETING.size, 1, socket.MSG_WAITALL)
    try:
        if len(greeting) < _GREETING.size:
            raise ConnectionResetError("the other side ended the connection")
        slots, size = _GREETING.unpack(greeting)
        if slots and not descriptors:  # it came, and the system has none left to give it; the other side would write
            raise OSError(errno.EMFILE, "no descriptor is left for the shared memory of the other side")
        return writer, SlotReader(slots, size, descriptors[0]) if slots else None
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _new_writer(slot_bytes: int) -> SlotWriter | None:
    if not hasattr(os, "memfd_create"):
        return None
    try:
        return SlotWriter(SLOTS, slot_bytes)
    except OSError as error:
        logger.warning("no shared memory for large arrays, which travel over the socket instead: %s", error)
        return None


def _seals() -> int:
    seals = 0
    for name in _SEALS:
        seals |= getattr(fcntl, name)
    return seals


def _counter(memory: mmap.mmap) -> memoryview:
    """The number at the beginning. One access reads or writes it whole."""
    return memoryview(memory)[:8].cast("Q")


def _close(memory: mmap.mmap, counter: memoryview) -> None:
    counter.release()
    with suppress(BufferError):  # somebody keeps a view that was not his to keep, and the memory lives as long
        memory.close()
