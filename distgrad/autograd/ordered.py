"""A pass that records itself, and whose record does not depend on the order in which gradients arrive.

Sums are taken in the order of their contributors' keys, and the key of a recorded operation says where in the program
it was recorded. For what a pass itself records that place is the node being differentiated, not the moment: each node,
and each of its inputs, has a frame of its own, named by the path of the pass and the key of the node. So derivatives of
derivatives are the same bits too, whichever process is faster.
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


class OrderedPass(Pass):
    """A `Pass` with `record=True` and keys that no timing can change; `path` names it among all passes."""

    def __init__(self, sink: Sink, path: Path, **options: Any) -> None:
        super().__init__(sink, record=True, **options)
        self._path = path
        # Frames of sums that are not complete.
        self._adding: dict[Node, Frame] = {}

    def deliver(self, node: Node, contributor: Contributor, gradient: Any) -> None:
        frame = self._adding.get(node)
        if frame is None:
            frame = self._adding[node] = self._frame(node, _ADDING)
        with tape.entered(frame=frame):
            super().deliver(node, contributor, gradient)
        if node not in self._contributors:
            del self._adding[node]

    def _prepare(self, node: Node, gradient: Any) -> None:
        with tape.entered(frame=self._frame(node, _PREPARING)):
            super()._prepare(node, gradient)

    def _contribute(self, node: Node, i: int, parent: Node, gradient: Any, shared: Any) -> None:
        with tape.entered(frame=self._frame(node, i)):
            super()._contribute(node, i, parent, gradient, shared)

    def _frame(self, node: Node, what: int) -> Frame:
        return Frame((*self._path, *_flat(node.key), what))


def _flat(key: tuple[Any, ...]) -> Iterator[int]:
    """Nested tuples of integers as integers, no two alike."""
    yield len(key)
    for part in key:
        if isinstance(part, tuple):
            yield from _flat(part)
        else:
            yield part
