"""A process of the pool: `python -m distgrad.service.process`, started by the server, which gives it its orders.

It takes requests from a Unix socket and answers them one after the other, in its main thread. Requests that came
together and are alike are batchable, and answered together.

A request that is given up is interrupted between two of Python's instructions, as Ctrl-C would, so the computation pays
nothing for it: the thread that listens to the server sends the main thread a signal.
"""

from __future__ import annotations

import contextvars
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from distgrad.autograd.allocator import keep_freed_memory
from distgrad.errors import WireError
from distgrad.transport.blocks import WORTH_A_BLOCK, Block, LentBlocks, put, room_behind
from distgrad.transport.local_messages import INLINE, LENT, OWN, LocalMessage, LocalReader, packed
from distgrad.wire import pb
from distgrad.wire.exchanges import BARE, decode_exchange, encode_exchange, split_stream
from distgrad.worker.child import Parent

from .evaluator import Evaluator, Result, Work, alike
from .failures import Code, Refused
from .functions import Served
from .repeats import Repeats
from .settings import ServingOrders


class _GivenUp(BaseException):
    """The request under way is no longer wanted. Not an Exception, so that a program's own handlers let it pass."""


class Interruption:
    """Interrupts the request under way. `give_up` may be called in any thread, the rest in the main thread."""

    def __init__(self) -> None:
        self._running = 0
        self._unwanted = 0
        self._main = threading.main_thread().ident or 0
        signal.signal(signal.SIGUSR1, self._interrupt)

    def give_up(self, request: int) -> None:
        """The request of this number, should it be the one under way, is not wanted."""
        self._unwanted = request
        signal.pthread_kill(self._main, signal.SIGUSR1)

    def run(self, request: int, answer: Callable[[], Result]) -> Result:
        """Runs something that may be interrupted."""
        try:
            try:
                self._running = request
                if request == self._unwanted:  # it was given up before it began
                    raise _GivenUp
                # What the interrupted computation has left set in its context is forgotten with it.
                return contextvars.copy_context().run(answer)
            finally:
                self._running = 0
        except _GivenUp:
            return Result("failure", Refused(Code.CANCELLED, "the request was given up").to_pb())

    def _interrupt(self, *_: object) -> None:
        if self._running and self._running == self._unwanted:
            self._running = 0
            raise _GivenUp


class _Taken(NamedTuple):
    """A request that was taken in, its number, and the memory that it has lent."""

    request: int
    work: Work
    memory: memoryview | None


class _Asked(NamedTuple):
    """What a request asks: its body's name, the message without payload, and the size of the payload."""

    body: str
    message: Any
    size: int


class Requests:
    """The socket that requests come from, and what they lend."""

    def __init__(self, orders: ServingOrders) -> None:
        self._connected = socket.socket(socket.AF_UNIX)
        self._connected.connect(b"\0" + orders.socket.encode())
        self._connected.sendall(bytes.fromhex(orders.ticket))
        self._reader = LocalReader(frozenset({LENT}), orders.max_bytes)
        self._lent = LentBlocks()
        self._repeats: Repeats[_Asked] = Repeats()

    def serve(self, evaluator: Evaluator, interruption: Interruption) -> None:
        """Answers until the connection ends."""
        with suppress(ConnectionResetError, BrokenPipeError):
            while True:
                taken = [self._taken(message) for message in self._reader.receive(self._connected)]
                if alike([one.work for one in taken]) and all(one.memory is None for one in taken):
                    results = evaluator.answer_together([one.work for one in taken])
                    for one, result in zip(taken, results, strict=True):
                        self._send(one, result)
                else:
                    for one in taken:
                        self._send(one, interruption.run(one.request, partial(evaluator.answer, one.work)))

    def _taken(self, message: LocalMessage) -> _Taken:
        memory = None
        if message.where == LENT:
            try:
                memory = self._lent.view(message.descriptor)
            finally:
                os.close(message.descriptor)
        number, _, rest = split_stream(message.encoded)
        found = self._repeats.find(rest, memory is not None)
        if found is not None:
            asked, content = found.known, memoryview(rest)[found.start :]
        else:
            exchange = decode_exchange(pb.StreamRequest, message.encoded, memory is not None)
            number, content = exchange.stream.id, exchange.payload
            asked = _Asked(exchange.body, exchange.message, exchange.size)
            if exchange.body not in BARE:
                self._repeats.keep(rest, memory is not None, exchange, asked)
        if memory is not None:
            if asked.size > len(memory):
                raise WireError(f"a payload of {asked.size} bytes in memory of {len(memory)}")
            content = memory[: asked.size].toreadonly()
        return _Taken(number, Work(asked.body, asked.message, content), memory)

    def _send(self, taken: _Taken, result: Result) -> None:
        stream, memory = pb.StreamResponse(id=taken.request), taken.memory
        start = room_behind(len(taken.work.payload))
        if memory is not None and result.size and start + result.size <= len(memory):
            put(memory, result.pieces, start)
            where, own = LENT, None
        elif result.size > WORTH_A_BLOCK:
            own = Block(result.size)
            own.put(result.pieces)
            where = OWN
        else:
            where, own = INLINE, None
        pieces = encode_exchange(stream, result.body, result.message, result.pieces, result.size, where != INLINE)
        message = packed(pieces, where)
        if own is None:
            self._connected.sendall(message)
            return
        sent = socket.send_fds(self._connected, [message], [own.descriptor])
        self._connected.sendall(message[sent:])
        own.close()

    def end(self) -> None:
        """Lets `serve` return, once the request under way is answered. In any thread."""
        with suppress(OSError):
            self._connected.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        self._connected.close()
        self._reader.close()
        self._lent.close()


def main() -> None:
    """Answers requests until told to stop, or until the server is gone."""
    keep_freed_memory()
    interruption = Interruption()
    parent = Parent()
    with parent.reporting("serving"):
        orders = ServingOrders(**parent.orders)
        served = Served(orders.targets)
        try:
            requests = Requests(orders)
            try:
                parent.attend(lambda _: requests.end(), lambda told: _heed(told, interruption))
                parent.tell("ready", functions=[_described(function) for function in served.functions.values()])
                # What programs have made until now stays; collections need not look at it again.
                gc.freeze()
                requests.serve(Evaluator(served, orders.lease), interruption)
            finally:
                requests.close()
        finally:
            served.close()


def _heed(told: dict[str, Any], interruption: Interruption) -> None:
    interruption.give_up(told["give_up"])


def _described(function: Any) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(function.description.to_pb())


if __name__ == "__main__":
    main()
