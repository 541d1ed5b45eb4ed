"""Where the arrays of a request are while the server has it; see `Payload`. And how replies are read."""

from __future__ import annotations

import mmap
import os

from distgrad.transport.blocks import Block, BlockPool, room_behind
from distgrad.transport.local_messages import LENT, OWN
from distgrad.wire.exchanges import body_of

from .tasks import Reply


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
