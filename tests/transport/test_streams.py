"""Byte streams below lanes."""

from __future__ import annotations

import array
import fcntl
import signal
import socket
import termios
import threading

from distgrad.transport.streams import Stream
from tests.processes import eventually


def unread(connected: socket.socket) -> int:
    """Bytes that have arrived and wait."""
    count = array.array("i", [0])
    fcntl.ioctl(connected, termios.FIONREAD, count)
    return count[0]


def test_a_signal_does_not_cut_a_wait_for_all_bytes_short() -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    here, there = socket.socketpair()
    with here, there:
        stream, memory, filled = Stream(there), memoryview(bytearray(2**16)), []
        reader = threading.Thread(target=lambda: filled.append(stream.receive_into(memory, wait_for_all=True)))
        reader.start()
        here.sendall(b"a" * 2**15)
        assert eventually(lambda: not unread(there))
        assert reader.ident is not None
        signal.pthread_kill(reader.ident, signal.SIGUSR1)
        here.sendall(b"b" * 2**15)
        reader.join(20)
    signal.signal(signal.SIGUSR1, before)
    assert filled == [2**16]
    assert bytes(memory) == b"a" * 2**15 + b"b" * 2**15
