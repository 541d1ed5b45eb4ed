"""Spans and counters, kept in memory until somebody asks for them."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

Attribute = str | int | float | bool

_NOTHING = nullcontext()


@dataclass(frozen=True, slots=True)
class Span:
    """One stretch of time with a name. `start` and `end` are nanoseconds since the Unix epoch."""

    name: str
    start: int
    end: int
    thread: int
    attributes: Mapping[str, Attribute]


class Recorder:
    """A bounded record of what happened when (spans) and how often (counters).

    Any thread may call any method. A new recorder is off: `span` then costs one attribute look-up and a call, `record`
    and `add` do nothing. When more than `capacity` spans have been recorded the oldest are forgotten; `forgotten` says
    how many.

    Spans are timed by a monotonic clock anchored once to the wall clock, so that the traces of several processes line
    up and a clock that is set meanwhile bends none of them.

    Example:
        >>> recorder = Recorder()
        >>> with recorder.recording():
        ...     with recorder.span("forward", shard="a"):
        ...         recorder.add("calls")
        >>> [span.name for span in recorder.spans()], recorder.counters()
        (['forward'], {'calls': 1})
    """

    def __init__(self, capacity: int = 65_536) -> None:
        if capacity < 1:
            raise ValueError(f"a recorder needs room for at least one span; got capacity={capacity}")
        self.enabled = False
        self._spans: deque[Span] = deque(maxlen=capacity)
        self._counters: dict[str, int | float] = {}
        self._forgotten = 0
        self._lock = threading.Lock()  # guards the three above
        self._epoch = time.time_ns() - time.monotonic_ns()

    def __repr__(self) -> str:
        state = "on" if self.enabled else "off"
        return f"<Recorder {state}, {len(self._spans)} of {self._spans.maxlen} spans, {len(self._counters)} counters>"

    def now(self) -> int:
        """The time on this recorder's clock, in nanoseconds since the Unix epoch."""
        return time.monotonic_ns() + self._epoch

    @contextmanager
    def recording(self) -> Iterator[Recorder]:
        """Switches the recorder on for a block, and back to what it was after it."""
        before, self.enabled = self.enabled, True
        try:
            yield self
        finally:
            self.enabled = before

    def span(self, name: str, **attributes: Attribute) -> AbstractContextManager[object]:
        """A block to time. When it ends by an exception, the attribute `error` names the exception's class."""
        return _OpenSpan(self, name, attributes) if self.enabled else _NOTHING

    def record(self, name: str, start: int, end: int, **attributes: Attribute) -> None:
        """Records a span that no single block of code covers; `start` and `end` are readings of `now()`."""
        if self.enabled:
            self._keep(Span(name, start, end, threading.get_ident(), attributes))

    def add(self, name: str, amount: int | float = 1) -> None:
        """Adds to a counter, which begins at zero."""
        if self.enabled:
            with self._lock:
                self._counters[name] = self._counters.get(name, 0) + amount

    def spans(self) -> list[Span]:
        """The recorded spans that are still kept, in the order in which they ended."""
        with self._lock:
            return list(self._spans)

    def counters(self) -> dict[str, int | float]:
        """The counters, by name."""
        with self._lock:
            return dict(sorted(self._counters.items()))

    @property
    def forgotten(self) -> int:
        """How many spans were dropped because newer ones needed their room."""
        return self._forgotten

    def clear(self) -> None:
        """Forgets all spans and counters."""
        with self._lock:
            self._spans.clear()
            self._counters.clear()
            self._forgotten = 0

    def chrome_trace(self, process: str = "distgrad") -> dict[str, Any]:
        """The record as Chrome trace events, which Perfetto and chrome://tracing show.

        Args:
            process: the name under which this process's rows appear.

        Returns:
            A JSON-compatible dict in the "JSON object format" of the Trace Event Format (Google, 2016); times are
            microseconds. Counters appear once, with their value at the end of the last span.
        """
        pid = os.getpid()
        spans = self.spans()
        last = max((span.end for span in spans), default=self.now())
        events: list[dict[str, Any]] = [{"ph": "M", "name": "process_name", "pid": pid, "args": {"name": process}}]
        events += [
            {
                "ph": "X",
                "name": span.name,
                "pid": pid,
                "tid": span.thread,
                "ts": span.start / 1e3,
                "dur": (span.end - span.start) / 1e3,
                "args": dict(span.attributes),
            }
            for span in spans
        ]
        events += [
            {"ph": "C", "name": name, "pid": pid, "ts": last / 1e3, "args": {"value": value}}
            for name, value in self.counters().items()
        ]
        return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"forgotten_spans": self._forgotten}}

    def write_chrome_trace(self, path: str | Path, process: str = "distgrad") -> None:
        """Writes `chrome_trace()` to a JSON file."""
        Path(path).write_text(json.dumps(self.chrome_trace(process)), encoding="utf-8")

    def _keep(self, span: Span) -> None:
        with self._lock:
            self._forgotten += len(self._spans) == self._spans.maxlen
            self._spans.append(span)


class _OpenSpan:
    """A span whose block runs. Recorded even when the recorder is switched off meanwhile."""

    __slots__ = ("_attributes", "_name", "_recorder", "_start")

    def __init__(self, recorder: Recorder, name: str, attributes: dict[str, Attribute]) -> None:
        self._recorder = recorder
        self._name = name
        self._attributes = attributes

    def __enter__(self) -> None:
        self._start = self._recorder.now()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        end = self._recorder.now()
        if kind is not None:
            self._attributes["error"] = kind.__name__
        self._recorder._keep(Span(self._name, self._start, end, threading.get_ident(), self._attributes))


recorder = Recorder()
