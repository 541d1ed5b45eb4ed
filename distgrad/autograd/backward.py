"""A whole backward pass over the graph of this process: what `Tensor.backward`, `dg.backward` and `dg.grad` run."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from distgrad.errors import GradientError

from . import tape
from .engine import Pass, Sink
from .operands import check_direction, namespace
from .rows import Rows
from .sums import added
from .tape import Leaf, Node
from .tensor import TENSOR_TYPES, Tensor

# Passes of several threads may end in one variable, and adding up large arrays lets other threads run.
_accumulating = threading.Lock()


def backward(
    roots: Sequence[Tensor],
    gradients: Sequence[Any] | None = None,
    *,
    inputs: Sequence[Tensor] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Accumulates the gradients of `roots` in `.grad` of the variables they were computed from, in one pass.

    Arguments:
        roots: tensors computed from variables; `Tensor.backward` is for one of them.
        gradients: a seed of each root's shape, None for a scalar; None: all are scalars.
        inputs, retain_graph, create_graph: as of `Tensor.backward`.

    Raises:
        GradientError: a root is no recorded tensor, a seed does not fit it, or an operation has no gradient.
        FreedGraphError: an earlier pass has freed what this one needs.
        InPlaceError: an array that it needs was written to.
    """
    if isinstance(roots, Tensor):
        raise GradientError("dg.backward takes a list of roots: write dg.backward([x]), or x.backward()")
    wanted = None if inputs is None else {require_node(x, f"inputs[{k}]") for k, x in enumerate(inputs)}
    for node in wanted or ():
        if not isinstance(node, Leaf):
            raise GradientError(
                f"only variables have a .grad, and {node} is computed; use dg.autograd.backward.gradients"
            )

    nodes, seeds = _seeded(roots, gradients, create_graph)
    handed_out = {id(tape.buffer_of(seed)) for seed in seeds}

    def accumulate(node: Node, gradient: Any) -> None:
        if gradient is None:
            return
        assert isinstance(node, Leaf), f"a local graph ends in variables, not in {node}"
        with _accumulating:
            node.grad = own(gradient, handed_out) if node.grad is None else added(gradient, node.grad)

    with tape.entered(record=create_graph or tape.mode.get().record):
        run_pass(nodes, seeds, accumulate, wanted=wanted, retain=bool(retain_graph), record=create_graph)


def gradients(
    roots: Sequence[Tensor],
    seeds: Sequence[Any] | None,
    inputs: Sequence[Tensor],
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> list[Any]:
    """The gradients of `roots` with respect to `inputs`, None where there is none; `.grad` is left alone.

    Inputs may be any recorded tensors, not only variables. Under `create_graph` the gradients are tensors, else arrays.
    """
    wanted = [require_node(x, f"inputs[{k}]") for k, x in enumerate(inputs)]
    found: dict[Node, Any] = {}
    nodes, values = _seeded(roots, seeds, create_graph)
    with tape.entered(record=create_graph or tape.mode.get().record):
        run_pass(nodes, values, found.__setitem__, wanted=set(wanted), retain=bool(retain_graph), record=create_graph)
    return [g.dense() if isinstance(g := found.get(node), Rows) else g for node in wanted]


def own(gradient: Any, handed_out: set[int]) -> Any:
    """A gradient as an array that its receiver may write to: a copy, if the memory was handed out to another already
    (both operands of a sum get the same array) or is shared by its elements (that of a sum is broadcast).

    Arguments:
        handed_out: identities of the arrays that were, kept up to date.
    """
    if type(gradient) is not np.ndarray:
        return gradient
    if id(tape.buffer_of(gradient)) in handed_out or not gradient.flags.writeable:
        gradient = gradient.copy()
    handed_out.add(id(tape.buffer_of(gradient)))
    return gradient


def _seeded(roots: Sequence[Tensor], seeds: Sequence[Any] | None, record: bool) -> tuple[list[Node], list[Any]]:
    """The nodes of `roots` and their checked seeds."""
    nodes = [require_node(root, f"roots[{k}]") for k, root in enumerate(roots)]
    given = list(seeds) if seeds is not None else [None] * len(roots)
    return nodes, [seed_for(root, seed, record) for root, seed in zip(roots, given, strict=True)]


def run_pass(
    roots: Sequence[Node],
    seeds: Sequence[Any],
    sink: Sink,
    *,
    wanted: set[Node] | None,
    cut: bool = False,
    retain: bool,
    record: bool,
) -> None:
    """One complete pass from `roots`, each with its seed; also where the graph goes on in other processes."""
    backward_pass = Pass(sink, record=record, retain=retain, wanted=wanted, cut=cut)
    backward_pass.expect([(node, k) for k, node in enumerate(roots)])
    if (abroad := backward_pass.abroad) is not None:
        abroad.differentiate(roots, seeds, sink, wanted=wanted, cut=cut, retain=retain, record=record)
        return
    for k, (node, seed) in enumerate(zip(roots, seeds, strict=True)):
        backward_pass.seed(node, k, seed)
    # A recorded pass is a transform to the rules of custom functions: derivatives inside them are recorded too.
    with tape.entered(level=tape.next_level()) if record else nullcontext():
        backward_pass.run()


def require_node(tensor: Any, what: str) -> Node:
    """The node of a tensor that must have one."""
    if not isinstance(tensor, Tensor):
        raise GradientError(f"{what} must be a tensor, not {type(tensor).__name__}")
    if tensor.node is None:
        raise GradientError(
            f"{what} does not require grad: it is neither a variable (requires_grad=True) nor computed from one "
            "while recording was on"
        )
    return tensor.node


def seed_for(root: Tensor, gradient: Any, record: bool) -> Any:
    """The seed of a root: `gradient`, checked; or one, for a scalar."""
    if gradient is None:
        if root.size != 1:
            raise GradientError(
                f"the root has shape {root.shape}: only a scalar can do without gradient=; "
                f"pass an array of that shape, or sum the root first"
            )
        data = namespace(root.data).ones_like(root.data)
    else:
        data = gradient if isinstance(gradient, Tensor) else namespace(root.data).asarray(gradient)
        if data.shape != root.shape:
            raise GradientError(f"gradient= has shape {data.shape}, but the root has shape {root.shape}")
        check_direction(data, root.dtype, "gradient=")
    if record:
        return data if isinstance(data, Tensor) else Tensor(data)
    return data.data if type(data) in TENSOR_TYPES else data
