"""The line that works anywhere: one stream of gRPC, on which large arrays travel in chunks."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import grpc

from distgrad.errors import DistgradError, LinkError, WireError
from distgrad.transport.chunks import Assembler, too_large
from distgrad.wire import pb
from distgrad.wire.dtypes import raw_bytes
from distgrad.wire.exchanges import decode_exchange, encode_exchange

from .exceptions import exception_for_rpc
from .lines import Line, UnderWay, laid_out

METHOD = "/distgrad.v1.GradientService/Stream"
CHUNK_BYTES = 2**20
# Of arrays that have begun to arrive.
MAX_TRANSFER_BYTES = 2**36

# The messages of one request, made as they leave.
Messages = Iterator[bytes]


class StreamLine(Line):
    """Implements `Line` over gRPC."""

    def __init__(self, address: str, channel: grpc.Channel, metadata: list[tuple[str, str]]) -> None:
        super().__init__(address)
        self._queue: queue.SimpleQueue[Messages | None] = queue.SimpleQueue()
        self._transfers = 0
        self._assembler = Assembler(MAX_TRANSFER_BYTES)
        self._stream: Any = channel.stream_stream(METHOD)(self._outgoing(), metadata=metadata)
        self._reader = threading.Thread(target=self._read, name="distgrad-answers", daemon=True)
        self._reader.start()

    # ---- sending

    def _send(self, request: pb.StreamRequest, under_way: UnderWay) -> None:
        question = under_way.question
        transfers = {}
        for index in too_large(question.arrays, CHUNK_BYTES):
            with self._lock:
                self._transfers += 1
                transfers[index] = self._transfers
        # Before anything leaves, as it may raise.
        pieces, size = laid_out(question, transfers)
        whole = b"".join(encode_exchange(request, question.kind, question.body, pieces, size))
        self._queue.put(_messages(request.id, under_way, transfers, whole))

    def _send_cancel(self, request: pb.StreamRequest) -> None:
        self._queue.put(iter([request.SerializeToString()]))

    def _outgoing(self) -> Iterator[bytes]:
        """What leaves, for gRPC's own thread. Requests take turns, a message each: small ones overtake large."""
        waiting: deque[Messages] = deque()
        while True:
            while not waiting or not self._queue.empty():
                messages = self._queue.get()
                if messages is None:
                    return
                waiting.append(messages)
            messages = waiting.popleft()
            message = next(messages, None)
            if message is not None:
                yield message
                waiting.append(messages)

    # ---- reading

    def _read(self) -> None:
        error: DistgradError = LinkError(f"{self.address} has ended the stream")
        try:
            for encoded in self._stream:
                self._received(encoded)
        except grpc.RpcError as ended:
            error = exception_for_rpc(ended, "", self.address)
        except DistgradError as broken:
            error = broken
        finally:
            self._break(error)
            self._stream.cancel()
            self._queue.put(None)

    def _received(self, encoded: bytes) -> None:
        exchange = decode_exchange(pb.StreamResponse, encoded)
        if exchange.body == "chunk":
            self._assembler.add(exchange.message.chunk, exchange.payload)
            return
        under_way = self._forget(exchange.stream.id)
        if under_way is not None:
            try:
                arrays = self._arrays(exchange, exchange.payload, self._assembler.complete)
            except WireError as error:
                self._reject(under_way, error)
                raise
            self._settle(under_way, exchange, arrays)

    # ---- the end

    def close(self) -> None:
        self._break(LinkError(f"the client of {self.address} was closed"))
        self._stream.cancel()
        self._queue.put(None)
        self._reader.join()


def _messages(number: int, under_way: UnderWay, transfers: dict[int, int], whole: bytes) -> Messages:
    for index, transfer in transfers.items():
        raw = raw_bytes(under_way.question.arrays[index])
        for offset in range(0, len(raw), CHUNK_BYTES):
            piece = raw[offset : offset + CHUNK_BYTES]
            chunk = pb.ArrayChunk(chunk=pb.Chunk(transfer=transfer, total=len(raw), offset=offset))
            yield b"".join(encode_exchange(pb.StreamRequest(), "chunk", chunk, [piece], len(piece)))
    yield whole
    if under_way.future.cancelled():  # perhaps before the server could know the request
        yield pb.StreamRequest(id=number, cancel=pb.CancelRequest()).SerializeToString()
