"""The line on the server's own machine: a Unix socket, and shared memory for large arrays."""

from __future__ import annotations

import mmap
import os
import select
import socket
import struct
import threading
import weakref
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from distgrad.errors import LinkError, WireError
from distgrad.transport.addresses import unix_address
from distgrad.transport.blocks import WORTH_A_BLOCK, Block, BlockPool, require_sealed, room_behind
from distgrad.transport.local_messages import INLINE, LENT, OWN, LocalMessage, LocalReader, packed
from distgrad.wire import pb
from distgrad.wire.exchanges import Exchange, decode_exchange, encode_exchange

from .lines import Answer, Line, UnderWay, laid_out
from .turns import Turns

# A server that takes nothing off its socket for so many seconds is given up.
PATIENCE = 10
MAX_MESSAGE_BYTES = 2**26
# Who waits looks after its future again after so many seconds; the system's clock for that can count 24 days.
LONGEST_LOOK = 3600.0
# Results may keep blocks as long as all of them together are at most this large; beyond, results are copied out.
MAX_KEPT_BYTES = 2**28


@dataclass(eq=False, slots=True)
class Lent:
    """A block that is with the server.

    Attributes:
        room: where in it the response's payload may begin.
    """

    block: Block
    room: int


class Blocks:
    """The blocks of one line. Safe to use from any thread.

    Results are arrays of shared memory, which a process that is forked would share too; of all other memory it has a
    copy. So before a fork the blocks of results are made private, and are not used again.
    """

    def __init__(self) -> None:
        self._pool = BlockPool()
        self._lock = threading.Lock()  # guards the pool
        # Blocks whose results are gone. Filled wherever garbage is collected, so it takes no lock.
        self._returned: deque[Block] = deque()
        # Blocks whose results are in use.
        self._kept: set[Block] = set()
        self._kept_bytes = 0
        self._closed = False
        _BLOCKS.add(self)

    def take(self, size: int) -> Block:
        with self._lock:
            self._collect()
            return self._pool.take(size)

    def give_back(self, block: Block) -> None:
        with self._lock:
            self._pool.give_back(block)

    def payload(self, lent: Lent, size: int) -> memoryview:
        """The payload of a response, and with it the block: it is used again when the arrays made of it are gone."""
        view = lent.block.view(lent.room, size)
        with self._lock:
            self._collect()
            keep = self._kept_bytes + lent.block.size <= MAX_KEPT_BYTES
            if keep:
                self._kept.add(lent.block)
                self._kept_bytes += lent.block.size
        if not keep:
            copy = np.frombuffer(view, np.uint8).copy()
            self.give_back(lent.block)
            return copy.data
        memory = np.frombuffer(view, np.uint8)
        weakref.finalize(memory, self._result_is_gone, lent.block).atexit = False
        return memory.data

    def _result_is_gone(self, block: Block) -> None:
        self._returned.append(block)
        if self._closed:
            self._returned.remove(block)
            self._kept.remove(block)
            block.close()

    def _collect(self) -> None:
        while self._returned:
            block = self._returned.popleft()
            self._kept.remove(block)
            self._kept_bytes -= block.size
            self._pool.give_back(block)

    def before_fork(self) -> None:
        """Results that are in use, here and in the fork, are no longer shared."""
        with self._lock:
            for block in list(self._kept):
                if block.shared:
                    block.make_private()

    def close(self) -> None:
        """Results that are still in use keep their memory, and nothing else."""
        self._closed = True
        with self._lock:
            self._collect()
            self._pool.close()


# Of all lines of this process.
_BLOCKS: weakref.WeakSet[Blocks] = weakref.WeakSet()


def _before_fork() -> None:
    for blocks in list(_BLOCKS):
        blocks.before_fork()


os.register_at_fork(before=_before_fork)


class LocalLine(Line):
    """Implements `Line` for clients on the server's machine."""

    def __init__(self, address: str, path: str, ticket: bytes) -> None:
        """
        Arguments:
            path, ticket: what the server offered.

        Raises:
            OSError: nobody listens there.
        """
        super().__init__(address)
        self._blocks = Blocks()
        # How large the last response of each kind of each function was: such room the next one gets.
        self._sizes: dict[tuple[str, str], int] = {}
        self._writing = threading.Lock()  # guards the two attributes below, and sending
        # What the server does not take at once, with descriptors that go along; and the thread that sends it.
        self._unsent: deque[tuple[bytes, int]] = deque()
        self._sender: threading.Thread | None = None
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(unix_address(f"socket:{path}") or path)
            self._socket.sendall(ticket)
        except BaseException:
            self._socket.close()
            raise
        self._reader = LocalReader(frozenset({OWN}), MAX_MESSAGE_BYTES)
        self._readable = select.poll()
        self._readable.register(self._socket, select.POLLIN)
        self._turns = Turns(self._read)

    # ---- sending

    def _send(self, request: pb.StreamRequest, under_way: UnderWay) -> None:
        question = under_way.question
        pieces, size = laid_out(question)
        room = self._sizes.get((question.function, question.kind), size)
        if size + room <= WORTH_A_BLOCK:
            self._write(packed(encode_exchange(request, question.kind, question.body, pieces, size)))
            return
        block = self._blocks.take(room_behind(size) + room)
        under_way.lent = Lent(block, room_behind(size))
        block.put(pieces)
        encoded = encode_exchange(request, question.kind, question.body, pieces, size, beside=True)
        self._write(packed(encoded, LENT), block.descriptor)

    def _lose(self, under_way: UnderWay) -> None:
        # Not for another request: the server may still write to it.
        if under_way.lent is not None:
            under_way.lent.block.close()

    def _send_cancel(self, request: pb.StreamRequest) -> None:
        self._write(packed([request.SerializeToString()]))

    def _write(self, message: bytes, descriptor: int = -1) -> None:
        """Sends a message, or has it sent: nobody is kept, as callers have deadlines and event loops."""
        try:
            with self._writing:
                sent = 0 if self._unsent else self._taken(message, descriptor)
                if sent < len(message):
                    self._unsent.append((message[sent:], os.dup(descriptor) if descriptor >= 0 and not sent else -1))
                    if len(self._unsent) == 1:
                        self._sender = threading.Thread(target=self._send_rest, name="distgrad-requests", daemon=True)
                        self._sender.start()
        except OSError as error:
            self._end(LinkError(f"the connection to {self.address} has ended: {error.strerror or error}"))
            raise LinkError(f"{self.address} cannot be sent to: {error.strerror or error}") from error

    def _taken(self, message: bytes, descriptor: int) -> int:
        """Sends as many bytes as the server takes now; the descriptor goes along with the first. Raises OSError."""
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))] if descriptor >= 0 else []
        try:
            return self._socket.sendmsg([message], beside, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def _send_rest(self) -> None:
        """The life of the thread that sends what was not taken at once."""
        writeable = select.poll()
        writeable.register(self._socket, select.POLLOUT)
        reason = f"it has taken nothing for {PATIENCE} s"
        try:
            while writeable.poll(PATIENCE * 1000):
                with self._writing:
                    self._send_some()
                    if not self._unsent:
                        return
        except OSError as error:
            reason = error.strerror or str(error)
        self._end(LinkError(f"the connection to {self.address} has ended: {reason}"))

    def _send_some(self) -> None:
        while self._unsent:
            message, descriptor = self._unsent.popleft()
            sent = self._taken(message, descriptor)
            if sent and descriptor >= 0:
                os.close(descriptor)
                descriptor = -1
            if sent < len(message):
                self._unsent.appendleft((message[sent:], descriptor))
                return

    # ---- reading

    def wait(self, future: Future[Answer], timeout: float | None) -> Answer:
        self._turns.wait(future, timeout)
        return future.result(0)

    def attend(self, future: Future[Answer]) -> None:
        self._turns.attend(future)

    def _read(self, timeout: float | None) -> None:
        """Implements what `Turns` wants."""
        try:
            if timeout is None or self._readable.poll(min(timeout, LONGEST_LOOK) * 1000):
                for message in self._reader.receive(self._socket):
                    self._received(message)
        except (OSError, WireError) as error:
            self._end(LinkError(f"the connection to {self.address} has ended: {error}"))
        except BaseException:  # an interrupt: nobody knows how far the message was read
            self._end(LinkError(f"reading from {self.address} was interrupted"))
            raise

    def _received(self, message: LocalMessage) -> None:
        exchange = decode_exchange(pb.StreamResponse, message.encoded, beside=message.where != INLINE)
        own = _take_over(message.descriptor) if message.where == OWN else None
        under_way = self._forget(exchange.stream.id)
        if under_way is None:
            raise WireError(f"an answer to request {exchange.stream.id} came, which is not under way")
        try:
            arrays = self._arrays(exchange, self._payload(message.where, exchange, under_way.lent, own))
        except WireError as error:
            self._reject(under_way, error)
            raise
        question = under_way.question
        if exchange.body == question.kind:
            self._sizes[question.function, question.kind] = exchange.size
        self._settle(under_way, exchange, arrays)

    def _payload(
        self, where: int, exchange: Exchange[pb.StreamResponse], lent: Lent | None, own: memoryview | None
    ) -> memoryview:
        if where == LENT:
            if lent is None or lent.room + exchange.size > lent.block.size:
                raise WireError(f"an answer of {exchange.size} bytes came in memory that has no room for it")
            return self._blocks.payload(lent, exchange.size)
        if lent is not None:
            self._blocks.give_back(lent.block)
        if own is None:
            return exchange.payload
        if exchange.size > len(own):
            raise WireError(f"an answer of {exchange.size} bytes came in memory of {len(own)}")
        return own

    # ---- the end

    def _end(self, error: LinkError) -> None:
        """Nothing goes over this line any more; `close` closes the socket."""
        self._break(error)
        self._blocks.close()
        with suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._end(LinkError(f"the client of {self.address} was closed"))
        self._turns.close()
        with self._writing:
            sender = self._sender
        if sender is not None:
            sender.join()
        with self._writing:
            self._socket.close()
        for _, descriptor in self._unsent:
            if descriptor >= 0:
                os.close(descriptor)
        self._unsent.clear()
        self._reader.close()


def _take_over(descriptor: int) -> memoryview:
    """The memory behind a descriptor, which is closed. It is this process's alone, and so a fork gets a copy."""
    try:
        return memoryview(mmap.mmap(descriptor, require_sealed(descriptor), mmap.MAP_PRIVATE))
    finally:
        os.close(descriptor)
