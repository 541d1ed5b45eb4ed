"""Where the arrays of a request are while the server has it; see `Payload`. And how replies are read."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from distgrad.transport.blocks import WORTH_A_BLOCK, Block, BlockPool, room_behind
from distgrad.transport.local_messages import LENT, OWN
from distgrad.wire.exchanges import body_of

from .failures import Code, Refused
from .tasks import Reply
from .transfers import gathered


class InlinePayload:
    """Few bytes, in the message."""

    def __init__(self, content: bytes) -> None:
        self.inline = content
        self.size = len(content)
        self.descriptor = -1

    def release(self) -> None:
        """There is nothing to give back."""


class BlockPayload:
    """In a block of the server's own, with room for the response."""

    inline = None

    def __init__(self, block: Block, size: int, blocks: BlockPool) -> None:
        self.block = block
        self.size = size
        self.descriptor = block.descriptor
        self._blocks = blocks

    def release(self) -> None:
        self._blocks.give_back(self.block)


class LentPayload:
    """In memory of a client's."""

    inline = None

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self.size = size

    def release(self) -> None:
        os.close(self.descriptor)


class Payloads:
    """Makes payloads of what comes with messages, so that the processes of the pool can have them."""

    def __init__(self) -> None:
        self._blocks = BlockPool()

    def taken(self, content: memoryview) -> InlinePayload | BlockPayload:
        """Of the payload of one message. Raises Refused when there is no memory."""
        if len(content) <= WORTH_A_BLOCK:
            return InlinePayload(bytes(content))
        with _memory():
            block = self._blocks.take(room_behind(len(content)) + len(content))
        block.put([content])
        return BlockPayload(block, len(content), self._blocks)

    def gathered(
        self, message: Any, content: memoryview, complete: MutableMapping[int, memoryview]
    ) -> InlinePayload | BlockPayload:
        """Of a message some of whose arrays came in chunks, and are now `complete`.

        Raises:
            Refused: there is no memory.
            WireError: one of them is not complete.
        """
        if not any(array.transfer for array in message.arrays):
            return self.taken(content)
        with _memory():
            block, size = gathered(message, content, complete, self._blocks)
        return BlockPayload(block, size, self._blocks)

    def close(self) -> None:
        self._blocks.close()


@contextmanager
def _memory() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Refused(Code.RESOURCE_EXHAUSTED, f"no memory for the arrays: {error.strerror}", retry_after=1.0) from None


def elsewhere(reply: Reply, payload: InlinePayload | BlockPayload) -> memoryview:
    """The part of a reply that is in shared memory; to be read before the request's payload is released."""
    _, size = body_of(reply.encoded)
    if reply.where == LENT and isinstance(payload, BlockPayload):
        return payload.block.view(room_behind(payload.size), size)
    if reply.where == OWN:
        try:
            return memoryview(mmap.mmap(reply.descriptor, size, prot=mmap.PROT_READ))
        finally:
            os.close(reply.descriptor)
    return memoryview(b"")
