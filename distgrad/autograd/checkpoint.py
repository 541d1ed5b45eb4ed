"""Recomputing instead of storing: `checkpoint(f)` keeps the inputs of `f` alone and runs it again on the way back.

Memory for time (Griewank & Walther, "Evaluating Derivatives", chapter 12; Chen et al., "Training deep nets with
sublinear memory cost", 2016). One node stands for the whole call. Its inputs are the recorded tensors among the
arguments and those that `f` found elsewhere, such as the parameters of a module it belongs to: the first run is
recorded, its graph looked through for where it leaves the call, and dropped.

A function that calls shards is not run again, since that would make its calls again. Each of its calls is a checkpoint
on the worker that runs it instead, and so are the calls made from there; what is computed between them is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import wraps
from typing import Any

from distgrad.errors import FreedGraphError, GradientError, InPlaceError

from . import tape, tree
from .backward import run_pass
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
    changes in between. Derivatives of any order are right. Inside jvp and vmap it is `f` itself. Shards that `f` calls
    keep the arguments of those calls alone, and run their methods again.

    Raises:
        GradientError: the second run did not compute the like.

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
        """What the function returns; its tensors are on the tape by the one node that stands for the call."""
        frame = Frame(mode.frame.path, mode.frame.next_op)
        frame.next_call = mode.frame.next_call
        run = self._run(frame, linked=True)
        if run.called_shards:
            if mode.recomputed is not None:
                mode.recomputed.calls_shards = True
            return run.result
        self._captured = run.leaving(frame)
        inputs = [self._leaves[k].node for k in self._moving]
        node = Checkpoint((*inputs, *self._captured), mode.frame, self, run.specs)
        if not node.inputs:
            return run.result
        return run.with_nodes([Output(node, k, shape, dtype) for k, (_, shape, dtype) in enumerate(run.specs)])

    def _run(self, frame: Frame, *, linked: bool) -> _Run:
        """Runs `f` in a frame of its own, its moving arguments replaced by variables: aliases of the arguments when
        `linked`, for a graph that goes on to them, else fresh leaves.
        """
        leaves = list(self._leaves)
        for k in self._moving:
            x = leaves[k]
            node = Alias(x.node, frame, x.shape, x.dtype) if linked else Leaf(frame, x.shape, x.dtype)
            leaves[k] = Tensor(x.data, node)
        args, kwargs = tree.unflatten(self._structure, leaves)
        recomputed = tape.Recomputed()
        with tape.entered(record=True, frame=frame, level=self._level, boxes=False, recomputed=recomputed):
            result = self._f(*args, **kwargs)
        return _Run([leaves[k].node for k in self._moving], result, recomputed.calls_shards)

    def gradients(self, node: Checkpoint, cotangents: Sequence[Any], record: bool) -> list[Any]:
        """The gradient of each input of the node: a second run, and a pass over its graph."""
        self._check_unchanged(node)
        frame = Frame((*node.frame.path, node.index))
        with ExitStack() as stack:
            for surroundings in self._surroundings:
                stack.enter_context(surroundings())
            run = self._run(frame, linked=record)
        if run.specs != node.specs:
            raise GradientError(
                f"the function of {node} returned other shapes when it ran again than the first time; a checkpointed "
                "function must compute the same from the same arguments"
            )
        if run.called_shards:
            raise GradientError(f"the function of {node} called a shard when it ran again, and not the first time")
        wanted = [*run.variables, *self._captured]
        found: dict[Node, Any] = {}
        run_pass(
            run.nodes,
            cotangents,
            found.__setitem__,
            wanted=set(wanted),
            cut=True,
            retain=False,
            record=record,
        )
        return [found.get(node) for node in wanted]

    def _check_unchanged(self, node: Checkpoint) -> None:
        """Raises InPlaceError when what the function used the first time is not there any more."""
        for k in self._moving:
            tape.clock.check(self._clock, (self._leaves[k].data,), node)
        for used in node.inputs:
            if isinstance(used, Leaf) and used.renewed > self._clock:
                raise InPlaceError(
                    f"variable {used}, which the function of {node} uses, was given new data after the function ran "
                    "(by an update of parameters?), so it would not compute the same again; do the backward pass first"
                )


class _Run:
    """One run of a checkpointed function.

    Attributes:
        variables: the nodes that took the place of its recorded arguments.
        result: what it returned.
        specs, nodes: position among the leaves of the result, shape, dtype and node of each recorded tensor.
        called_shards: whether it called a shard, so that its graph may go on in other processes.
    """

    def __init__(self, variables: list[Node], result: Any, called_shards: bool) -> None:
        self.variables = variables
        self.result = result
        self.called_shards = called_shards
        self._leaves, self._structure = tree.flatten(result)
        self.specs: list[tuple[int, Any, Any]] = []
        self.nodes: list[Node] = []
        for k, y in enumerate(self._leaves):
            if isinstance(y, Tensor) and y.node is not None:
                self.specs.append((k, y.shape, y.dtype))
                self.nodes.append(y.node)

    def with_nodes(self, nodes: Sequence[Node]) -> Any:
        """The result, its recorded tensors recorded as these nodes."""
        leaves = list(self._leaves)
        for (k, _, _), node in zip(self.specs, nodes, strict=True):
            leaves[k] = Tensor(leaves[k].data, node)
        return tree.unflatten(self._structure, leaves)

    def leaving(self, frame: Frame) -> list[Node]:
        """The nodes its graph comes from, besides its variables, in program order: those of other frames, and values
        that came from other processes.
        """
        outside: set[Node] = set()
        seen: set[Node] = set(self.variables)
        stack = list(self.nodes)
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if node.frame is not frame or not (node.inputs or isinstance(node, Leaf)):
                outside.add(node)
            else:
                stack.extend(parent for parent in node.inputs if parent is not None)
        return sorted(outside, key=lambda node: node.key)


class Checkpoint(Node):
    """A whole call whose derivative runs it again."""

    __slots__ = ("_call", "specs")

    def __init__(
        self, inputs: tuple[Node | None, ...], frame: Frame, call: _Call, specs: list[tuple[int, Any, Any]]
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
