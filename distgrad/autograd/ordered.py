"""Passes in which everything done at a node has its own place in the program, whatever the order of arrival.

Calls to other processes are named by the path of the frame they are made in, and sums are taken in the order of the
keys of their contributors, which say where in the program an operation was recorded. For what a pass does itself (vjps
and hooks that call shards, operations that a recorded pass records) that place is the node being differentiated, not
the moment: each node, and each of its inputs, has a frame of its own, named by the path of the pass and the key of the
node. So there are no two calls of one name, and the bits are the same whichever process is faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import tape
from .engine import Pass, Sink
from .sums import Contributor
from .tape import Frame, Node, Path

# What is done at a node, besides the vjps of its inputs 0, 1, ...
_ADDING = -1
_PREPARING = -2


class PlacedPass(Pass):
    """A `Pass` that is not recorded; `path` names it among all passes.

    Attributes:
        frame: to be the mode's while the pass runs. It moves with the pass from node to node.
    """

    def __init__(self, sink: Sink, path: Path, **options: Any) -> None:
        super().__init__(sink, **options)
        self.frame = _MovingFrame(path)

    def _prepare(self, node: Node, gradient: Any) -> None:
        self.frame.move(node, _PREPARING)
        super()._prepare(node, gradient)

    def _contribute(self, node: Node, i: int, parent: Node, gradient: Any, shared: Any) -> None:
        self.frame.move(node, i)
        super()._contribute(node, i, parent, gradient, shared)


class _MovingFrame(Frame):
    """The frame of what is done at one node after the other. Its path is worked out when somebody asks."""

    __slots__ = ("_calls", "_node", "_pass", "_what")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._pass = path
        self._node: Node | None = None
        self._what = 0
        self.next_call = self._next_call

    def move(self, node: Node, what: int) -> None:
        self._node = node
        self._what = what
        self._calls = 0

    def _next_call(self) -> int:
        self._calls += 1
        return self._calls - 1

    @property
    def path(self) -> Path:
        return self._pass if self._node is None else _place(self._pass, self._node, self._what)

    @path.setter
    def path(self, path: Path) -> None:
        """Given by the base class, and of no use here."""


class OrderedPass(Pass):
    """A `Pass` with `record=True` and keys that no timing can change; `path` names it among all passes.

    Attributes:
        frame: to be the mode's while the pass runs.
    """

    def __init__(self, sink: Sink, path: Path, **options: Any) -> None:
        super().__init__(sink, record=True, **options)
        self.frame = Frame(path)
        self._path = path
        # Frames of sums that are not complete.
        self._adding: dict[Node, Frame] = {}

    def deliver(self, node: Node, contributor: Contributor, gradient: Any) -> None:
        frame = self._adding.get(node)
        if frame is None:
            frame = self._adding[node] = self._frame_of(node, _ADDING)
        with tape.entered(frame=frame):
            super().deliver(node, contributor, gradient)
        if node not in self._contributors:
            del self._adding[node]

    def _prepare(self, node: Node, gradient: Any) -> None:
        with tape.entered(frame=self._frame_of(node, _PREPARING)):
            super()._prepare(node, gradient)

    def _contribute(self, node: Node, i: int, parent: Node, gradient: Any, shared: Any) -> None:
        with tape.entered(frame=self._frame_of(node, i)):
            super()._contribute(node, i, parent, gradient, shared)

    def _frame_of(self, node: Node, what: int) -> Frame:
        return Frame(_place(self._path, node, what))


def _place(path: Path, node: Node, what: int) -> Path:
    return (*path, *_flat(node.key), what)


def _flat(key: tuple[Any, ...]) -> Iterator[int]:
    """Nested tuples of integers as integers, no two alike."""
    yield len(key)
    for part in key:
        if isinstance(part, tuple):
            yield from _flat(part)
        else:
            yield part
