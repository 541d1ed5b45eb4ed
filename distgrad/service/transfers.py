"""Requests and responses that are too large for one message of a gRPC stream: their large arrays go ahead in chunks."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from distgrad.errors import WireError
from distgrad.transport.blocks import Block, BlockPool, room_behind
from distgrad.wire import pb
from distgrad.wire.exchanges import encode_exchange
from distgrad.wire.frames import ALIGNMENT, Buffer

MiB = 2**20
# Of a chunk, and of the arrays that stay in the message.
CHUNK_BYTES = MiB


def cut(stream: Any, body: str, message: Any, payload: memoryview, transfers: Iterator[int]) -> Iterator[list[Buffer]]:
    """The messages of a stream that bring one large message, in pieces each.

    Arguments:
        stream: with the id, of the kind that goes in this direction.
        message: without payload; its arrays are changed to say where they are.
        transfers: numbers that are not in use on this stream.
    """
    ahead = _ahead(message)
    kept: list[Buffer] = []
    end = 0
    for k, array in enumerate(message.arrays):
        content = payload[array.offset : array.offset + array.size]
        if k in ahead:
            array.transfer, array.offset = next(transfers), 0
            yield from _chunks(type(stream), array.transfer, content)
        elif array.size:
            start = end + -end % ALIGNMENT
            kept += [bytes(start - end), content]
            array.offset, end = start, start + array.size
    yield encode_exchange(stream, body, message, kept, end)


def _ahead(message: Any) -> set[int]:
    """Indices of the arrays that go in chunks: the smallest stay, up to a chunk together."""
    room = CHUNK_BYTES
    ahead = set()
    for size, k in sorted((array.size, k) for k, array in enumerate(message.arrays)):
        room -= size + ALIGNMENT
        if room < 0 and size:
            ahead.add(k)
    return ahead


def _chunks(kind: type[Any], transfer: int, content: memoryview) -> Iterator[list[Buffer]]:
    for offset in range(0, len(content), CHUNK_BYTES):
        piece = content[offset : offset + CHUNK_BYTES]
        chunk = pb.ArrayChunk(chunk=pb.Chunk(transfer=transfer, total=len(content), offset=offset))
        yield encode_exchange(kind(), "chunk", chunk, [piece], len(piece))


def gathered(
    message: Any, payload: memoryview, complete: MutableMapping[int, memoryview], blocks: BlockPool
) -> tuple[Block, int]:
    """A block with the whole payload of a message whose arrays came in chunks, and the payload's size.

    Arguments:
        message: its arrays are changed to say where they are.
        complete: transfers by their ids; those of the message are taken out.

    Raises:
        WireError: a transfer is not complete, or is not what the message says.
        OSError: there is no memory.
    """
    contents: list[tuple[Any, memoryview]] = []
    end = 0
    for array in message.arrays:
        content = complete.pop(array.transfer, None) if array.transfer else payload[array.offset :][: array.size]
        if content is None or len(content) != array.size or (array.transfer and array.offset):
            raise WireError(f"transfer {array.transfer} of {array.size} bytes is not complete, or of another size")
        array.transfer, array.offset = 0, end + -end % ALIGNMENT
        end = array.offset + array.size
        contents.append((array, content))
    block = blocks.take(room_behind(end) + end)
    for array, content in contents:
        block.put([content], array.offset)
    return block, end
