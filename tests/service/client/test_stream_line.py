"""What leaves over a stream, and in which order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np

from distgrad.service.client.question import Question
from distgrad.service.client.stream_line import CHUNK_BYTES, StreamLine
from distgrad.wire import pb
from distgrad.wire.exchanges import decode_exchange


class Channel(grpc.Channel):  # type: ignore[misc]
    """Of one stream, from which nothing comes before it is cancelled; what would leave is taken by the test."""

    def stream_stream(self, *_: Any, **__: Any) -> Any:
        def open_stream(outgoing: Iterator[bytes], metadata: Any) -> Any:
            self.outgoing = outgoing
            return Silent()

        return open_stream

    unary_unary = unary_stream = stream_unary = subscribe = unsubscribe = close = None


class Silent:
    """A stream from which nothing comes."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        self._cancelled.wait(2)
        return iter(())

    def cancel(self) -> None:
        self._cancelled.set()


def test_the_cancellation_of_a_large_request_does_not_overtake_it() -> None:
    channel = Channel()
    line = StreamLine("host:1", channel, [])
    question = Question("f", "evaluate", pb.EvaluateRequest(), [np.zeros(CHUNK_BYTES)], lambda *_: None)
    line.start(question, None).cancel()
    left = []
    while not left or left[-1] != "evaluate":
        left.append(decode_exchange(pb.StreamRequest, next(channel.outgoing)).body)
    last = decode_exchange(pb.StreamRequest, next(channel.outgoing))
    assert (last.body, last.stream.id) == ("cancel", 1)
    line.close()
