"""The backward engine: an event machine that local and distributed passes alike drive.

Reverse-mode differentiation (Linnainmaa 1970; Griewank & Walther, "Evaluating Derivatives", chapter 3): walk the
recorded graph against its edges, give each node the sum of what its consumers contribute, and let it contribute to
its inputs in turn.

A pass first *expects*: from the roots, and from every other place where a gradient may come from outside, it walks
the graph and lists each node's contributors. Then gradients are *delivered*. A node runs when all its contributors
have delivered a gradient or, explicitly, None; so every node runs exactly once and hooks see complete sums. Who
delivers when does not matter: contributions are added in the order of the contributors' keys, latest in the program
first; a contribution that comes early is held. This order is also the one in which a single process arrives at them,
so usually nothing is held.

    expect(roots, sources)     which nodes are involved
    seed / relay / deliver     a gradient arrives: for a root, from another process, from a node that has run
    run_one()                  one task: a node that is complete, or the vjp of one input that nobody waits for
    waiting                    nodes that still miss a contribution

Where a graph ends (variables; values received from another process) the gradient goes to the pass's `sink`. What
leads to a node of `awaited` (another process waits for its gradient) runs first, the rest fills the gaps. With
nobody waiting it is a plain loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from . import tape
from .anomaly import check_finite, note_failure
from .rows import Rows
from .sliced import Sliced
from .sums import Contributor, Sum, fit
from .tape import Frame, Node, Places
from .tensor import Tensor

Sink = Callable[[Node, Any], None]


class Pass:
    """One backward pass over the graph of this process.

    Arguments:
        sink: called once for each end of the graph with its complete gradient, or None when none reached it.
        record: record the pass itself (`create_graph`).
        retain: keep the saved values of the nodes that run.
        wanted: only these nodes receive a gradient: the sink is called for them, wherever in the graph they are, and
            what leads to none of them is left out. None: every end of the graph is wanted.
        cut: the graph ends at the wanted nodes, as if they were variables.
        awaited: says of an end of the graph whether its gradient goes on elsewhere.
        source: says of such an end where its gradient comes back into this graph; None when it leaves this process, so
            that another one waits for it.

    Attributes:
        abroad: an end of the graph from which it goes on in another process; None when it does not.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        record: bool = False,
        retain: bool = False,
        wanted: set[Node] | None = None,
        cut: bool = False,
        awaited: Callable[[Node], bool] | None = None,
        source: Callable[[Node], Node | None] = lambda node: None,
    ) -> None:
        self._sink = sink
        self._cut: set[Node] = wanted if cut and wanted else set()
        self._record = record
        self._retain = retain or record
        self._wanted = wanted
        self._awaited = awaited
        self._source = source
        self.abroad: Node | None = None
        self._anomaly = tape.mode.get().anomaly
        self._useful: set[Node] | None = None
        self._urgent: set[Node] = set()
        # One contributor or a list of them; most nodes have one.
        self._contributors: dict[Node, Contributor | list[Contributor]] = {}
        self._halves: dict[Node, Any] = {}
        self._sums: dict[Node, Sum] = {}
        self._ready: list[tuple[Node, Any]] = []
        self._fillers: list[Callable[[], None]] = []

    # ---- before: who contributes to whom -----------------------------------------------------------------------------

    def expect(self, roots: Iterable[tuple[Node, int]], sources: Iterable[Node] = ()) -> None:
        """Walks the graph from `roots` (node and position among all roots) and from `sources` (nodes that one
        gradient from outside is due for, see `relay`), and lists the contributors of each node.
        """
        contributors = self._contributors
        cut = self._cut
        since, frame = _beginning(cut)
        stack: list[Node] = []
        ends: list[Node] = []

        def expected(node: Node, contributor: Contributor) -> None:
            known = contributors.get(node)
            if known is None:
                contributors[node] = contributor
                stack.append(node)
            elif type(known) is list:
                known.append(contributor)
            else:
                contributors[node] = [known, contributor]  # type: ignore[list-item]

        for node, position in (*roots, *((source, 0) for source in sources)):
            expected(node, (None, position))
        while stack:
            node = stack.pop()
            inputs = node.inputs
            if not inputs:
                ends.append(node)
            elif node in cut:
                continue
            for i, parent in enumerate(inputs):
                if parent is None or (parent.index < since and parent.frame is frame):
                    continue
                if parent in contributors:
                    expected(parent, (node, i))
                else:
                    contributors[parent] = (node, i)
                    stack.append(parent)
        self.abroad = next((node for node in ends if node.abroad), None)
        onward = [node for node in ends if self._awaited(node)] if self._awaited is not None else []
        self._urgent = self._hurrying(onward)
        if self._wanted is not None:
            self._useful = self._leading_to([*onward, *(node for node in self._wanted if node in contributors)])

    def _hurrying(self, onward: Iterable[Node]) -> set[Node]:
        """Every node of the pass whose gradient another process waits for, given the ends from which it goes on."""
        sources = {node: self._source(node) for node in onward}
        urgent: set[Node] = set()
        # What comes back into this graph is urgent when it leads on from there to where another process waits.
        while hurried := [node for node, source in sources.items() if source is None or source in urgent]:
            urgent |= self._leading_to(hurried)
            for node in hurried:
                del sources[node]
        return urgent

    def _leading_to(self, nodes: Iterable[Node]) -> set[Node]:
        """Every node of the pass from which one of `nodes` can be reached."""
        leading: set[Node] = set()
        stack = list(nodes)
        while stack:
            node = stack.pop()
            if node not in leading:
                leading.add(node)
                due = self._contributors[node]
                consumers = due if isinstance(due, list) else [due]
                stack.extend(consumer for consumer, _ in consumers if consumer is not None)
        return leading

    @property
    def reached(self) -> Iterable[Node]:
        """Nodes that are part of this pass and have not run."""
        return self._contributors.keys()

    @property
    def waiting(self) -> int:
        """How many nodes still miss a contribution."""
        return len(self._contributors)

    def holding(self) -> list[Node]:
        """Waiting nodes that hold a gradient already, the live ones of a pass at rest."""
        halves = [node for node, gradient in self._halves.items() if gradient is not None]
        return halves + [node for node, total in self._sums.items() if total.live]

    # ---- during: gradients arrive, nodes run -------------------------------------------------------------------------

    def deliver(self, node: Node, contributor: Contributor, gradient: Any) -> None:
        """Gives `node` the gradient (or None) of one contributor. When it was the last one missing, the node is
        ready.
        """
        due = self._contributors[node]
        if type(due) is not list:
            total = gradient
        elif len(due) == 2:
            # The order of two does not matter: addition commutes, bit for bit.
            halves = self._halves
            if node not in halves:
                halves[node] = gradient
                return
            first = halves.pop(node)
            total = gradient if first is None else first if gradient is None else first + gradient
        else:
            entry = self._sums.get(node)
            if entry is None:
                entry = self._sums[node] = Sum(due)
            if not entry.add(contributor, gradient):
                return
            total = entry.total
            del self._sums[node]
        del self._contributors[node]
        self._ready.append((node, total))

    def seed(self, node: Node, position: int, gradient: Any) -> None:
        """Delivers the seed of a root."""
        self.deliver(node, (None, position), None if gradient is None else self._fit(node, gradient))

    def relay(self, node: Node, gradient: Any) -> None:
        """Delivers another process's gradient for a source, which passes it on to its only input as it is."""
        del self._contributors[node]
        (parent,) = node.inputs
        assert parent is not None
        if gradient is None:
            self._nothing(node, 0, parent)
        else:
            self._contribute(node, 0, parent, gradient, None)

    @property
    def idle(self) -> bool:
        """Whether nothing can run until another gradient is delivered."""
        return not (self._ready or self._fillers)

    @property
    def hurried(self) -> bool:
        """Whether something can run that may lead to a node another process waits for."""
        return bool(self._urgent and self._ready)

    def run_one(self) -> bool:
        """Runs one task, the most urgent first. False when there was none."""
        if self._ready:
            self._prepare(*self._ready.pop())
        elif self._fillers:
            self._fillers.pop()()  # the latest: what it works on was used last, and may still be in the cache
        else:
            return False
        while self._urgent and self._ready:  # this only makes tasks
            self._prepare(*self._ready.pop())
        return True

    def run(self) -> None:
        """Runs until nothing is ready."""
        ready = self._ready
        # Infinite and undefined gradients at the edge of a domain are values, of which NumPy need not warn.
        with np.errstate(all="ignore"):
            while True:
                while ready:
                    self._prepare(*ready.pop())
                if not self.run_one():
                    return

    def _prepare(self, node: Node, gradient: Any) -> None:
        """A node's gradient is complete: run its hooks, then pull it back to the inputs, or turn that into tasks."""
        if gradient is not None:
            if node.hooks:
                gradient = self._hooked(node, gradient)
            kind = type(gradient)
            if kind is Places:
                gradient = node.complete(gradient, self._record)
            elif kind is Rows and node.inputs and not node.same:
                # Only the ends of the graph know what to do with rows.
                gradient = gradient.dense()
            elif kind is Sliced:
                gradient = gradient.dense()
        wanted, useful = self._wanted, self._useful or ()
        if not node.inputs if wanted is None else node in wanted or (not node.inputs and node in useful):
            self._sink(node, gradient)
            if node in self._cut:
                return
        if gradient is None:
            for i, parent in enumerate(node.inputs):
                if parent is not None:
                    self._nothing(node, i, parent)
        elif node.inputs:
            urgent = self._urgent
            later = 0
            try:
                shared = node.shared(gradient, self._record)
                for i, parent in enumerate(node.inputs):
                    if parent is None:
                        continue
                    if not urgent or parent in urgent:
                        self._contribute(node, i, parent, gradient, shared)
                    else:
                        later += 1
            except Exception as error:
                note_failure(error, node)
                raise
            if later:
                self._postpone(node, gradient, shared, later)
            elif not self._retain:
                node.free()

    def _postpone(self, node: Node, gradient: Any, shared: Any, count: int) -> None:
        """The vjps of the inputs that lead to nothing another process waits for, so many, become tasks of their own,
        for when there is nothing urgent."""
        left = [count]
        for i, parent in enumerate(node.inputs):
            if parent is not None and parent not in self._urgent:
                self._fillers.append(partial(self._pull, node, i, parent, gradient, shared, left))

    def _pull(self, node: Node, i: int, parent: Node, gradient: Any, shared: Any, left: list[int]) -> None:
        """The vjp of an input that was postponed; the last one frees the node."""
        try:
            self._contribute(node, i, parent, gradient, shared)
        except Exception as error:
            note_failure(error, node)
            raise
        left[0] -= 1
        if not left[0] and not self._retain:
            node.free()

    def _contribute(self, node: Node, i: int, parent: Node, gradient: Any, shared: Any) -> None:
        """Pulls a node's gradient back to one of its inputs."""
        if self._useful is not None and parent not in self._useful:
            self._nothing(node, i, parent)
            return
        pulled = node.vjp(i, gradient, shared, self._record)
        if pulled is not None and (pulled.shape != parent.shape or pulled.dtype is not parent.dtype):
            pulled = self._fit(parent, pulled)
        if self._anomaly:
            check_finite(node, i, gradient, pulled)
        contributors = self._contributors
        if type(contributors[parent]) is list:
            self.deliver(parent, (node, i), pulled)
        else:  # we are the only one; `deliver` without the call
            del contributors[parent]
            self._ready.append((parent, pulled))

    def _nothing(self, node: Node, i: int, parent: Node) -> None:
        """Tells an input that it gets no gradient from here. One from before the pass's beginning is not part of it."""
        if parent in self._contributors:
            self.deliver(parent, (node, i), None)

    def _hooked(self, node: Node, gradient: Any) -> Any:
        if isinstance(gradient, Rows | Sliced):
            gradient = gradient.dense()
        for hook in tuple(node.hooks or ()):
            changed = hook(gradient if isinstance(gradient, Tensor) else Tensor(gradient))
            if changed is not None:
                changed = changed if self._record or not isinstance(changed, Tensor) else changed.data
                gradient = self._fit(node, changed)
        return gradient

    def _fit(self, node: Node, gradient: Any) -> Any:
        return fit(gradient, node.shape, node.dtype)


def _beginning(cut: set[Node]) -> tuple[int, Frame | None]:
    """Where in program order a pass cut at these nodes begins: nothing earlier in their frame can depend on them."""
    frames = {node.frame for node in cut}
    return (min(node.index for node in cut), frames.pop()) if len(frames) == 1 else (-1, None)
