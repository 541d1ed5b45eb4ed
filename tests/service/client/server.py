"""A gradient service in the process of the test, as small as can be, which fails when and how the test wants.

What a real server does with a request is tested elsewhere; this one serves what clients do.
"""

from __future__ import annotations

import mmap
import os
import queue
import secrets
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
import numpy as np

import distgrad as dg
from distgrad.service.client.stream_line import CHUNK_BYTES
from distgrad.service.served import Declaration, declaration_of
from distgrad.service.specs import Anything, spec_to_pb
from distgrad.transport.blocks import WORTH_A_BLOCK, put, room_behind
from distgrad.transport.chunks import Assembler, too_large
from distgrad.transport.local_messages import INLINE, LENT, OWN, LocalReader, packed
from distgrad.wire import decode_value, encode_value, pb
from distgrad.wire.dtypes import raw_bytes
from distgrad.wire.exchanges import Exchange, decode_exchange, encode_exchange
from distgrad.wire.frames import lay_out, view_arrays

Function = Callable[..., Any]


class Server:
    """Serves functions over gRPC and a Unix socket.

    Attributes:
        failures: what the next requests get instead of an answer, in turn; None stands for an answer.
        received: every request's id, kind and body.
        lines: how many lines were opened: "grpc", "local".
    """

    def __init__(self, functions: Mapping[str, Function], *, local: bool = True, token: str = "") -> None:
        self.functions = functions
        self.token = token
        self.failures: deque[pb.Failure | None] = deque()
        self.received: list[tuple[int, str, Any]] = []
        self.lines: list[str] = []
        self.sessions: dict[str, tuple[str, Any]] = {}
        self.held = threading.Event()
        self.held.set()
        self._pool = ThreadPoolExecutor(16)
        self._grpc = grpc.server(self._pool, [_Handlers(self)], options=[("grpc.so_reuseport", 0)])
        self.address = f"127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"
        self._grpc.start()
        self._tickets: set[bytes] = set()
        self._path = f"@distgrad-test-{secrets.token_hex(8)}" if local else ""
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []
        if local:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind("\0" + self._path[1:])
            self._listener.listen()
            self._start(self._accept)

    # ---- answers

    def answer(self, kind: str, message: Any, arrays: list[Any]) -> tuple[str, Any, list[Any]]:
        """Name, message and arrays of the response to a request."""
        self.held.wait(30)
        if self.failures and (failure := self.failures.popleft()) is not None:
            return "failure", failure, []
        session = self.sessions.get(getattr(message, "session", ""))
        if getattr(message, "session", "") and session is None:
            return "failure", pb.Failure(code=5, message="no such session"), []
        if kind == "close_session":
            del self.sessions[message.session]
            return kind, pb.CloseSessionResponse(), []
        name, arguments = session or (message.function, decode_value(message.arguments, arrays))
        if name not in self.functions:
            return "failure", pb.Failure(code=5, message=f"no function {name}"), []
        out: list[Any] = []
        try:
            return kind, _PRODUCTS[kind](self, name, _named(self.functions[name], arguments), message, arrays, out), out
        except dg.DistgradError as error:
            return "failure", pb.Failure(code=9, message=str(error)), []
        except Exception as error:
            raised = pb.UserException(type=type(error).__name__, message=str(error), file="f.py", line=3, source="...")
            return "failure", pb.Failure(code=13, message=str(error), exception=raised), []

    # ---- gRPC

    def stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        self._check(context)
        self.lines.append("grpc")
        assembler = Assembler(2**40)
        transfers = iter(range(1, 10**9))
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def read() -> None:
            try:
                for encoded in requests:
                    exchange = decode_exchange(pb.StreamRequest, encoded)
                    if exchange.body == "chunk":
                        assembler.add(exchange.message.chunk, exchange.payload)
                        continue
                    arrays = self._note(exchange, exchange.payload, assembler.complete)
                    if arrays is not None:
                        answers.put((exchange.stream.id, *self.answer(exchange.body, exchange.message, arrays)))
            except Exception:  # the client has gone: gRPC raises a bare Exception
                pass
            answers.put(None)

        self._start(read)
        while (one := answers.get()) is not None:
            number, kind, message, arrays = one
            chosen = {index: next(transfers) for index in too_large(arrays, CHUNK_BYTES)}
            for index, transfer in chosen.items():
                raw = raw_bytes(arrays[index])
                for at in range(0, len(raw), CHUNK_BYTES):
                    piece = raw[at : at + CHUNK_BYTES]
                    chunk = pb.ArrayChunk(chunk=pb.Chunk(transfer=transfer, total=len(raw), offset=at))
                    yield b"".join(encode_exchange(pb.StreamResponse(), "chunk", chunk, [piece], len(piece)))
            pieces, size = lay_out(message, arrays, chosen) if arrays else ([], 0)
            yield b"".join(encode_exchange(pb.StreamResponse(id=number), kind, message, pieces, size))

    def _described(self, name: str) -> pb.DescribeFunctionResponse:
        function = self.functions[name]
        declared = declaration_of(function) or Declaration()
        described = pb.DescribeFunctionResponse(name=name, result=spec_to_pb(declared.gives))
        for argument in _names(function):
            described.arguments.add(name=argument, spec=spec_to_pb(declared.takes.get(argument, Anything())))
        return described

    def unary(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        self._check(context)
        if method == "ListFunctions":
            summaries = [pb.FunctionSummary(name=name, summary=f"{name}.") for name in self.functions]
            return pb.ListFunctionsResponse(functions=summaries).SerializeToString()
        if method == "DescribeFunction":
            name = pb.DescribeFunctionRequest.FromString(request).name
            if name not in self.functions:
                context.abort(grpc.StatusCode.NOT_FOUND, f"no function {name}")
            return self._described(name).SerializeToString()
        offer = pb.GetLocalSocketResponse()
        if self._path:
            offer = pb.GetLocalSocketResponse(path=self._path, ticket=secrets.token_bytes(32))
            self._tickets.add(offer.ticket)
        return offer.SerializeToString()

    def _check(self, context: grpc.ServicerContext) -> None:
        if self.token and dict(context.invocation_metadata()).get("authorization") != f"Bearer {self.token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "that token is not known")

    def _note(self, exchange: Exchange[pb.StreamRequest], payload: memoryview, transfers: Any = None) -> Any:
        """The arrays of a request; None for what has no answer of its own."""
        self.received.append((exchange.stream.id, exchange.body, exchange.message))
        if exchange.body == "cancel":
            return None
        return view_arrays(exchange.message, payload, transfers) if exchange.body != "close_session" else []

    # ---- the Unix socket

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return
            if connected.recv(32, socket.MSG_WAITALL) not in self._tickets:
                connected.close()
                continue
            self.lines.append("local")
            self._connections.append(connected)
            self._start(self._serve, connected)

    def _serve(self, connected: socket.socket) -> None:
        reader = LocalReader(frozenset({LENT}), 2**30)
        try:
            while True:
                for message in reader.receive(connected):
                    self._serve_one(connected, message.encoded, message.where, message.descriptor)
        except OSError:
            connected.close()

    def _serve_one(self, connected: socket.socket, encoded: bytes, where: int, descriptor: int) -> None:
        exchange = decode_exchange(pb.StreamRequest, encoded, beside=where != INLINE)
        memory = memoryview(b"")
        if where == LENT:
            memory = memoryview(mmap.mmap(descriptor, 0))
            os.close(descriptor)
        arrays = self._note(exchange, memory[: exchange.size] if where == LENT else exchange.payload)
        if arrays is None:
            return
        kind, message, out = self.answer(exchange.body, exchange.message, arrays)
        pieces, size = lay_out(message, out) if out else ([], 0)
        head = pb.StreamResponse(id=exchange.stream.id)
        room = room_behind(exchange.size)
        if size and room + size <= len(memory):
            put(memory, pieces, room)
            connected.sendall(packed(encode_exchange(head, kind, message, pieces, size, beside=True), LENT))
        elif size > WORTH_A_BLOCK:
            own = dg_memory(size)
            with mmap.mmap(own, size) as mapped:
                put(memoryview(mapped), pieces, 0)
            front = encode_exchange(head, kind, message, pieces, size, beside=True)
            socket.send_fds(connected, [packed(front, OWN)], [own])
            os.close(own)
        else:
            connected.sendall(packed(encode_exchange(head, kind, message, pieces, size)))

    # ---- the end

    def break_lines(self) -> None:
        """Ends every connection; new ones are welcome."""
        for connected in self._connections:
            with suppress(OSError):  # the client was first
                connected.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def _start(self, task: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=task, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        self.held.set()
        self._grpc.stop(0).wait()
        if self._path:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        self.break_lines()
        self._pool.shutdown()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, server: Server) -> None:
        self._server = server

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = details.method.rpartition("/")[2]
        if method == "Stream":
            return grpc.stream_stream_rpc_method_handler(self._server.stream)
        return grpc.unary_unary_rpc_method_handler(lambda *call: self._server.unary(method, *call))


def dg_memory(size: int) -> int:
    """The descriptor of sealed memory."""
    import fcntl

    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return descriptor


# ---- products, by the local engine -----------------------------------------------------------------------------------


def _names(function: Function) -> list[str]:
    return list(function.__code__.co_varnames[: function.__code__.co_argcount])


def _named(function: Function, arguments: Any) -> dict[str, Any]:
    return arguments if isinstance(arguments, dict) else dict(zip(_names(function), arguments, strict=False))


def _of(function: Function, arguments: dict[str, Any], names: list[str]) -> Function:
    return lambda *moving: function(**{**arguments, **dict(zip(names, moving, strict=True))})


def _at(message: Any, arguments: dict[str, Any]) -> tuple[list[str], list[Any]]:
    names = list(message.with_respect_to) or list(arguments)
    return names, [arguments[name] for name in names]


def _data(tree: Any) -> Any:
    return dg.autograd.tree.map(lambda x: x.data if isinstance(x, dg.Tensor) else np.asarray(x), tree)


def _evaluate(server: Server, name: str, arguments: dict[str, Any], message: Any, arrays: Any, out: list[Any]) -> Any:
    return pb.EvaluateResponse(value=encode_value(_data(server.functions[name](**arguments)), out))


def _value_and_gradient(
    server: Server, name: str, arguments: dict[str, Any], message: Any, arrays: Any, out: list[Any]
) -> Any:
    names, point = _at(message, arguments)
    f = _of(server.functions[name], arguments, names)
    value, gradients = dg.value_and_grad(f, tuple(range(len(names))))(*point)
    by_name = dict(zip(names, gradients, strict=True))
    return pb.ValueAndGradientResponse(value=encode_value(value, out), gradient=encode_value(by_name, out))


def _vjp(server: Server, name: str, arguments: dict[str, Any], message: Any, arrays: Any, out: list[Any]) -> Any:
    names, point = _at(message, arguments)
    _, pullback = dg.vjp(_of(server.functions[name], arguments, names), *point)
    found = [pullback(decode_value(cotangent, arrays)) for cotangent in message.cotangents]
    gradients = [encode_value(dict(zip(names, one, strict=True)), out) for one in found]
    return pb.VjpResponse(gradients=gradients)


def _jvp(server: Server, name: str, arguments: dict[str, Any], message: Any, arrays: Any, out: list[Any]) -> Any:
    found = []
    seconds = [decode_value(second, arrays) for second in message.second_tangents]
    for k, tangent in enumerate(decode_value(tangent, arrays) for tangent in message.tangents):
        names = list(tangent)
        f = _of(server.functions[name], arguments, names)
        point, first = tuple(arguments[n] for n in names), tuple(tangent[n] for n in names)
        if seconds:
            second = tuple(seconds[k][n] for n in names)
            along = lambda *xs, f=f, first=first: dg.jvp(f, xs, first)[1]  # noqa: E731
            found.append(dg.jvp(along, point, second)[1])
        else:
            found.append(dg.jvp(f, point, first)[1])
    return pb.JvpResponse(tangents=[encode_value(one, out) for one in found])


def _jacobian(server: Server, name: str, arguments: dict[str, Any], message: Any, arrays: Any, out: list[Any]) -> Any:
    names, point = _at(message, arguments)
    f = _of(server.functions[name], arguments, names)
    rows = dg.jacobian(f, tuple(range(len(names))))(*point)
    value = _data(f(*point))
    named = _each(value, rows, lambda row: dict(zip(names, row, strict=True)))
    return pb.JacobianResponse(value=encode_value(value, out), jacobian=encode_value(named, out))


def _each(like: Any, tree: Any, change: Function) -> Any:
    """`tree` with everything changed that is in the place of a leaf of `like`."""
    if isinstance(like, dict):
        return {key: _each(like[key], tree[key], change) for key in like}
    if isinstance(like, list | tuple):
        return type(like)(_each(a, b, change) for a, b in zip(like, tree, strict=True))
    return change(tree)


def _hessian(server: Server, name: str, arguments: dict[str, Any], message: Any, arrays: Any, out: list[Any]) -> Any:
    names, point = _at(message, arguments)
    f = _of(server.functions[name], arguments, names)
    rows = dg.hessian(f, tuple(range(len(names))))(*point)
    named = {
        one: _each(argument, row, lambda cells: dict(zip(names, cells, strict=True)))
        for one, argument, row in zip(names, point, rows, strict=True)
    }
    return pb.HessianResponse(hessian=encode_value(named, out))


def _hvp(server: Server, name: str, arguments: dict[str, Any], message: Any, arrays: Any, out: list[Any]) -> Any:
    names, point = _at(message, arguments)
    f = _of(server.functions[name], arguments, names)
    cotangents = [decode_value(cotangent, arrays) for cotangent in message.cotangents]
    found = []
    for k, vector in enumerate(decode_value(vector, arrays) for vector in message.vectors):
        if cotangents:
            w = cotangents[k % len(cotangents)]
            gradient = lambda *xs, w=w: dg.vjp(f, *xs)[1](w)  # noqa: E731
        else:
            gradient = dg.grad(f, tuple(range(len(names))))
        _, pullback = dg.vjp(gradient, *point)
        found.append(dict(zip(names, pullback(tuple(vector[n] for n in names)), strict=True)))
    return pb.HvpResponse(products=[encode_value(one, out) for one in found])


def _linearize(server: Server, name: str, arguments: dict[str, Any], message: Any, arrays: Any, out: list[Any]) -> Any:
    session = secrets.token_hex(8)
    server.sessions[session] = name, arguments
    value = encode_value(_data(server.functions[name](**arguments)), out)
    return pb.LinearizeResponse(session=session, value=value, lease_seconds=60)


_PRODUCTS: dict[str, Callable[..., Any]] = {
    "evaluate": _evaluate,
    "value_and_gradient": _value_and_gradient,
    "vjp": _vjp,
    "jvp": _jvp,
    "jacobian": _jacobian,
    "hessian": _hessian,
    "hvp": _hvp,
    "linearize": _linearize,
}
