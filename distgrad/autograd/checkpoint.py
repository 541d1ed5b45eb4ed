"""Recomputing instead of storing: `checkpoint(f)` keeps the inputs of `f` alone and runs it again on the way back.

Memory for time (Griewank & Walther, "Evaluating Derivatives", chapter 12; Chen et al., "Training deep nets with
sublinear memory cost", 2016). One node stands for the whole call. Its inputs are the recorded tensors among the
arguments and those that `f` found elsewhere, such as the parameters of a module it belongs to: the first run is
recorded, its graph looked through for where it leaves the call, and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import wraps
from typing import Any

from distgrad.errors import FreedGraphError, GradientError

from . import tape, tree
from .backward import run_pass
from .primitive import namespace
from .tape import Alias, Frame, Leaf, Node, Output, Places
from .tensor import Boxed, Tensor

# What a call depends on besides its arguments, such as the position in a stream of random numbers. A snapshot is
# taken before the first run; what it returns is called for each further run and gives the context in which that run
# finds everything as it was.
Snapshot = Callable[[], Callable[[], AbstractContextManager[Any]]]
SNAPSHOTS: list[Snapshot] = []


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f`, without storing what its derivative needs: the backward pass runs it again.

    `f` must compute the same again: it may draw dropout masks (the draws are repeated), but not read state that
    changes in between. Derivatives of any order are right. Inside jvp and vmap it is `f` itself.

    Raises:
        GradientError: `f` calls a shard (then checkpoint inside the shard's method), or the second run did not
        compute the like.

    >>> import distgrad as dg
    >>> float(dg.grad(dg.checkpoint(lambda x: dg.ops.exp(x * x)))(0.0))
    0.0
    """
    if not callable(f):
        raise GradientError(f"dg.checkpoint takes a function and returns one; it got {type(f).__name__}")

    @wraps(f, updated=())
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        mode = tape.mode.get()
        leaves, structure = tree.flatten((args, kwargs))
        if not mode.record or mode.boxes or any(isinstance(x, Boxed) for x in leaves):
            return f(*args, **kwargs)
        return _Call(f, leaves, structure).first_run(mode)

    return checkpointed


class _Call:
    """A function, its arguments and its surroundings, to be run more than once."""

    def __init__(self, f: Callable[..., Any], leaves: list[Any], structure: tree.Structure) -> None:
        self._f = f
        self._leaves = leaves
        self._structure = structure
        self._surroundings = [snapshot() for snapshot in SNAPSHOTS]
        self._clock = tape.clock.now
        # Transforms inside `f` behave as they did the first time, whichever transform the backward pass runs in.
        self._level = tape.mode.get().level
        # Positions of the arguments that are recorded tensors, and the nodes found elsewhere.
        self._moving = [k for k, x in enumerate(leaves) if isinstance(x, Tensor) and x.node is not None]
        self._captured: list[Node] = []

    def first_run(self, mode: tape.Mode) -> Any:
        """The results, each on the tape by the one node that stands for the call."""
        frame = Frame(mode.frame.path)
        variables, outputs, shape = self._run(frame)
        inner = {x.node for x in variables}
        self._captured = _leaving(outputs, frame, inner)
        inputs = [self._leaves[k].node for k in self._moving]
        specs = [(y.shape, y.dtype) for y in outputs]
        node = Checkpoint((*inputs, *self._captured), mode.frame, self, specs)
        if not node.inputs:
            return tree.unflatten(shape, outputs)
        results = [
            Tensor(y.data, Output(node, k, y.shape, y.dtype)) if y.node is not None else y
            for k, y in enumerate(outputs)
        ]
        return tree.unflatten(shape, results)

    def _run(self, frame: Frame, *, linked: bool = False) -> tuple[list[Tensor], list[Tensor], tree.Structure]:
        """Runs `f` in a frame of its own. Returns the variables its moving arguments were replaced by, the results and
        their structure.

        The variables are fresh leaves; with `linked`, aliases of the arguments, for a pass that is recorded itself.
        """
        leaves = list(self._leaves)
        for k in self._moving:
            x = leaves[k]
            node = Alias(x.node, frame, x.shape, x.dtype) if linked else Leaf(frame, x.shape, x.dtype)
            leaves[k] = Tensor(x.data, node)
        args, kwargs = tree.unflatten(self._structure, leaves)
        with tape.entered(record=True, frame=frame, level=self._level, boxes=False):
            result = self._f(*args, **kwargs)
        outputs, shape = tree.flatten(result)
        outputs = [y if isinstance(y, Tensor) else Tensor(namespace(y).asarray(y)) for y in outputs]
        return [leaves[k] for k in self._moving], outputs, shape

    def gradients(self, node: Checkpoint, cotangents: Sequence[Any], record: bool) -> list[Any]:
        """The gradient of each input of the node: a second run, and a pass over its graph."""
        for k in self._moving:
            tape.clock.check(self._clock, (self._leaves[k].data,), node)
        frame = Frame((*node.frame.path, node.index))
        with ExitStack() as stack:
            for surroundings in self._surroundings:
                stack.enter_context(surroundings())
            variables, outputs, _ = self._run(frame, linked=record)
        if [(y.shape, y.dtype) for y in outputs] != node.specs:
            raise GradientError(
                f"the function of {node} returned other shapes when it ran again than the first time; a checkpointed "
                "function must compute the same from the same arguments"
            )
        wanted = [*(x.node for x in variables), *self._captured]
        seeded = [(y.node, c) for y, c in zip(outputs, cotangents, strict=True) if y.node is not None]
        found: dict[Node, Any] = {}
        run_pass(
            [root for root, _ in seeded],
            [seed for _, seed in seeded],
            found.__setitem__,
            wanted={node for node in wanted if node is not None},
            cut=True,
            retain=False,
            record=record,
        )
        return [found.get(node) for node in wanted if node is not None]


def _leaving(outputs: Sequence[Tensor], frame: Frame, inner: set[Node | None]) -> list[Node]:
    """The nodes outside a frame that its graph leads to, in program order."""
    outside: set[Node] = set()
    seen: set[Node] = set()
    stack = [y.node for y in outputs if y.node is not None]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.frame is not frame:
            outside.add(node)
            continue
        if not node.inputs and not isinstance(node, Leaf):
            raise GradientError(
                f"a checkpointed function received {node} from elsewhere: it called a shard; checkpoint inside that "
                "shard's method"
            )
        stack.extend(parent for parent in node.inputs if parent is not None)
    return sorted(outside, key=lambda node: node.key)


class Checkpoint(Node):
    """A whole call whose derivative runs it again."""

    __slots__ = ("_call", "specs")

    def __init__(
        self, inputs: tuple[Node | None, ...], frame: Frame, call: _Call, specs: list[tuple[Any, Any]]
    ) -> None:
        super().__init__(inputs, frame, (), None)
        self._call: _Call | None = call
        self.specs = specs

    def complete(self, gradient: Places, record: bool) -> tuple[Any, ...]:
        return tuple(gradient.by_position.get(k) for k in range(len(self.specs)))

    def shared(self, gradient: Any, record: bool) -> list[Any]:
        if self._call is None:
            raise FreedGraphError(
                f"what {self} needs was freed by an earlier backward pass over it; "
                "pass retain_graph=True to that pass to keep it"
            )
        return self._call.gradients(self, gradient, record)

    def vjp(self, i: int, gradient: Any, shared: Any, record: bool) -> Any:
        return shared[i]

    def free(self) -> None:
        self._call = None
