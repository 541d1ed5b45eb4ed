"""Clients made of the messages alone, as one in another language would be; and a server for them."""

from __future__ import annotations

import itertools
import os
import queue
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from distgrad.service.block import RunningServer, serve
from distgrad.service.settings import ServiceSettings
from distgrad.transport.blocks import WORTH_A_BLOCK, Block, LentBlocks, room_behind
from distgrad.transport.local_messages import INLINE, LENT, OWN, LocalMessage, LocalReader, packed
from distgrad.transport.offers import this_machine
from distgrad.wire import decode_value, encode_value, pb
from distgrad.wire.exchanges import BODIES, decode_exchange, encode_exchange
from distgrad.wire.frames import join_frame, lay_out, split_message, view_arrays
from tests.processes import eventually

DEADLINE = 60.0
SERVICE = "distgrad.v1.GradientService"
PROGRAM = Path(__file__).parent / "programs" / "served.py"
# What the tests' program serves to all tests of a module.
TARGETS = [
    "sine",
    "rosenbrock",
    "affine",
    "anything",
    "square",
    "raises",
    "objects",
    "promises",
    "leaves",
    "spins",
    "sleeps_deeply",
    "dies",
    "dies_below_zero",
    "process",
    "grows",
    "Counter",
    "Whole",
]
QUICK = ServiceSettings(workers=2, lease=30.0, drain=10.0)
METHODS = {
    "evaluate": "Evaluate",
    "value_and_gradient": "ValueAndGradient",
    "vjp": "Vjp",
    "jvp": "Jvp",
    "jacobian": "Jacobian",
    "hessian": "Hessian",
    "hvp": "Hvp",
    "linearize": "Linearize",
    "close_session": "CloseSession",
}


class Failed(Exception):
    """A request ended with a failure."""

    def __init__(self, failure: pb.Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure

    @property
    def code(self) -> str:
        return next(code.name for code in grpc.StatusCode if code.value[0] == self.failure.code)


def question(body: str, fields: dict[str, Any]) -> tuple[Any, list[Any], int]:
    """A request's message, and the pieces and size of its payload."""
    message = BODIES[pb.StreamRequest][body]()
    arrays: list[Any] = []
    for name, given in fields.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.message_type is None:
            setattr(message, name, given) if isinstance(given, str | bool) else getattr(message, name).extend(given)
        elif name == "arguments":
            message.arguments.CopyFrom(encode_value(given, arrays))
        else:
            getattr(message, name).extend([encode_value(tree, arrays) for tree in given])
    return message, *lay_out(message, arrays)


def answer(message: Any, payload: memoryview) -> dict[str, Any]:
    """A response's fields, decoded."""
    arrays = view_arrays(message, payload) if "arrays" in message.DESCRIPTOR.fields_by_name else []
    found: dict[str, Any] = {}
    for field, content in message.ListFields():
        if field.name in ("arrays", "padding", "payload"):
            continue
        if isinstance(content, pb.Value):
            found[field.name] = decode_value(content, arrays)
        elif field.message_type is not None:
            found[field.name] = [decode_value(value, arrays) for value in content]
        else:
            found[field.name] = content
    return found


def failure_of(error: grpc.RpcError) -> Failed:
    """What the trailing metadata of a failed call says."""
    trailing = dict(error.trailing_metadata() or ())
    failure = pb.Failure(code=error.code().value[0], message=error.details() or "")
    if "grpc-status-details-bin" in trailing:
        status = pb.StatusDetails.FromString(trailing["grpc-status-details-bin"])
        status.details[0].Unpack(failure)
        assert (status.code, status.message) == (failure.code, failure.message)
    return Failed(failure)


def bearer(token: str) -> list[tuple[str, str]]:
    """The metadata that shows a token; nothing without one."""
    return [("authorization", f"Bearer {token}")] if token else []


class Unary:
    """One message a request."""

    def __init__(self, address: str, token: str = "", credentials: Any = None) -> None:
        self.channel = (
            grpc.secure_channel(address, credentials) if credentials is not None else grpc.insecure_channel(address)
        )
        self.metadata = bearer(token)

    def call(self, method: str, request: bytes, timeout: float = DEADLINE) -> bytes:
        try:
            stub = self.channel.unary_unary(f"/{SERVICE}/{method}")
            found: bytes = stub(request, timeout=timeout, metadata=self.metadata)
        except grpc.RpcError as error:
            raise failure_of(error) from None
        return found

    def ask(self, body: str, timeout: float = DEADLINE, **fields: Any) -> dict[str, Any]:
        encoded = b"".join(join_frame(*question(body, fields)))
        kind = BODIES[pb.StreamResponse][body]
        if body == "close_session":
            self.call(METHODS[body], encoded, timeout)
            return {}
        message, payload, _ = split_message(kind, self.call(METHODS[body], encoded, timeout))
        return answer(message, payload)

    def close(self) -> None:
        self.channel.close()


class Streaming:
    """gRPC's stream: a thread of gRPC's reads the requests from a queue."""

    def __init__(self, address: str, token: str = "") -> None:
        self.channel = grpc.insecure_channel(address)
        self._metadata = bearer(token)
        self._requests: Any = None
        self._responses = self._open()
        self._numbers = itertools.count(1)

    def _open(self) -> Any:
        self._requests = queue.SimpleQueue()
        stub = self.channel.stream_stream(f"/{SERVICE}/Stream")
        return stub(iter(self._requests.get, None), timeout=DEADLINE, metadata=self._metadata)

    def put(self, encoded: bytes) -> None:
        self._requests.put(encoded)

    def send(self, body: str, **fields: Any) -> int:
        number = next(self._numbers)
        timeout = fields.pop("timeout", 0)
        message, pieces, size = question(body, fields)
        stream = pb.StreamRequest(id=number, timeout_seconds=timeout)
        self.put(b"".join(encode_exchange(stream, body, message, pieces, size)))
        return number

    def next(self) -> Any:
        """The next message, taken apart."""
        return decode_exchange(pb.StreamResponse, next(self._responses))

    def end(self) -> None:
        self._requests.put(None)

    def close(self) -> None:
        self.end()
        self._responses.cancel()
        self.channel.close()


class Asking(Streaming):
    """A stream with one request at a time."""

    def ask(self, body: str, **fields: Any) -> dict[str, Any]:
        number = self.send(body, **fields)
        exchange = self.next()
        assert exchange.stream.id == number
        if exchange.body == "failure":
            raise Failed(exchange.message)
        return answer(exchange.message, exchange.payload)


class Local:
    """The Unix socket, with shared memory. One request at a time, or several by `send` and `receive`."""

    def __init__(self, address: str, token: str = "") -> None:
        unary = Unary(address, token)
        request = pb.GetLocalSocketRequest(host=this_machine()).SerializeToString()
        offer = pb.GetLocalSocketResponse.FromString(unary.call("GetLocalSocket", request))
        unary.close()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(b"\0" + offer.path.removeprefix("@").encode())
        self.socket.sendall(offer.ticket)
        self._reader = LocalReader(frozenset({OWN}), 2**30)
        self._numbers = itertools.count(1)
        self._blocks: dict[int, tuple[Block, int]] = {}
        self._free: list[Block] = []
        self._come: list[LocalMessage] = []

    def send(self, body: str, *, room: int | None = None, timeout: float = 0, **fields: Any) -> int:
        number = next(self._numbers)
        message, pieces, size = question(body, fields)
        stream = pb.StreamRequest(id=number, timeout_seconds=timeout)
        if size <= WORTH_A_BLOCK:
            self.socket.sendall(packed(encode_exchange(stream, body, message, pieces, size)))
            return number
        needed = room_behind(size) + (size if room is None else room)
        block = next((block for block in self._free if block.size >= needed), None)
        if block is None:
            block = Block(needed)
        else:
            self._free.remove(block)
        block.put(pieces)
        self._blocks[number] = block, size
        sent = packed(encode_exchange(stream, body, message, pieces, size, beside=True), LENT)
        socket.send_fds(self.socket, [sent], [block.descriptor])
        return number

    def receive(self) -> tuple[int, dict[str, Any] | Failed]:
        while not self._come:
            self._come += self._reader.receive(self.socket)
        message = self._come.pop(0)
        exchange = decode_exchange(pb.StreamResponse, message.encoded, message.where != INLINE)
        number, payload = exchange.stream.id, exchange.payload
        block, size = self._blocks.pop(number, (None, 0))
        if message.where == LENT:
            assert block is not None
            payload = block.view(room_behind(size), exchange.size)
        elif message.where == OWN:
            lent = LentBlocks()
            payload = lent.view(message.descriptor)
            os.close(message.descriptor)
        if block is not None:
            self._free.append(block)
        if exchange.body == "failure":
            return number, Failed(exchange.message)
        return number, answer(exchange.message, payload)

    def ask(self, body: str, **fields: Any) -> dict[str, Any]:
        number = self.send(body, **fields)
        found, result = self.receive()
        assert found == number
        if isinstance(result, Failed):
            raise result
        return result

    def close(self) -> None:
        self.socket.close()
        self._reader.close()
        for block in [*self._free, *(block for block, _ in self._blocks.values())]:
            block.close()


class Running:
    """A server of a test, and looks at it."""

    def __init__(self, running: RunningServer) -> None:
        self.server = running.server
        self.loop = running.loop
        self.address = running.address

    def counts(self) -> dict[str, int]:
        return self.server.desk.counts()

    def processes(self) -> list[int]:
        """Of the pool."""
        return [process.child.pid for process in self.server.desk.pool]


def put_tokens(path: Path, text: str) -> None:
    """Changes a server's file of tokens whole: what is written in place may be read half, or look as it did."""
    aside = path.with_suffix(".new")
    aside.write_text(text)
    aside.replace(path)


@contextmanager
def serving(targets: Sequence[str], settings: ServiceSettings | None = None, **more: Any) -> Iterator[Running]:
    """A server; `targets` are names within the tests' program, or whole targets."""
    whole = [target if ":" in target else f"{PROGRAM}:{target}" for target in targets]
    with serve(whole, settings, **more) as started:
        running = Running(started)
        # It serves when one of its processes is ready; the others are not to turn up in the middle of some test.
        assert eventually(lambda: running.counts()["workers"] == running.server.desk.settings.workers)
        yield running
