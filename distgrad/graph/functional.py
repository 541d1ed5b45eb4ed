"""`dg.grad`, `dg.hvp` and other transforms of functions that call shards.

A transform differentiates what its function recorded. Where that leads to another process, the pass is one over the
whole context, restricted to the transform's variables, so nothing else is touched. Outside any context the outermost
transform opens one of its own, and ends it when it ends.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distgrad.autograd import tape
from distgrad.autograd.tape import Frame, Node, Path
from distgrad.autograd.tensor import Boxed, Tensor
from distgrad.errors import CannotTravel, ContextError, GradientError

from .deadlines import Deadline
from .initiator import Initiator
from .share import Share, active

if TYPE_CHECKING:
    from .process import Process


def frame_of(share: Share, process: Process) -> Frame:
    """Where something done here and now in that context is numbered.

    Raises:
        ContextError: nothing here belongs to the context.
    """
    if active.get() is share:
        return tape.mode.get().frame
    if not share.records:
        return process.outside
    if share.frame is None:
        raise ContextError(f"a call with arguments of context {share.id} is made outside it, by no call of it")
    return share.frame


def shard_frame(name: str) -> Frame:
    """Where a shard's parameters are numbered: alike wherever the shard lives, and apart from other shards' and from
    calls, whose paths begin with small numbers."""
    return Frame((-(2**31), zlib.crc32(name.encode()) >> 1))


def next_path(share: Share, process: Process) -> Path:
    """The place in the program of something done here and now, as if it were a call."""
    frame = frame_of(share, process)
    return (*frame.path, frame.next_call())


def opened(process: Process) -> Share | None:
    """The context that belongs to the outermost transform that runs here, opened at first use. None outside all."""
    endings = tape.endings.get()
    if endings is None or not tape.mode.get().record:
        return None
    from .context import Context

    context = endings.held.get(process)
    if context is None:
        context = endings.held[process] = Context(process)
        endings.push(lambda kind, error, trace: context.end(failed=kind is not None))
    share: Share = context.share
    return share


def differentiate(
    process: Process,
    share: Share,
    roots: Sequence[Node],
    seeds: Sequence[Any],
    sink: Callable[[Node, Any], None],
    *,
    wanted: set[Node] | None,
    cut: bool,
    retain: bool,
    record: bool,
) -> None:
    """A complete pass from nodes of this process over the context; see `distgrad.autograd.backward.run_pass`.

    Raises:
        GradientError: nothing says what is wanted, and this process cannot hold the gradients of others.
        CannotTravel: a seed is a box of dg.jvp or dg.vmap.
    """
    if wanted is None:
        raise GradientError(
            f"this gradient leads to other processes of context {share.id}, which keep theirs in the context: use "
            "ctx.backward(tensor) instead of tensor.backward()"
        )
    if any(isinstance(seed, Boxed) for seed in seeds):
        raise CannotTravel("dg.jvp and dg.vmap cannot look into a pass that leads to other processes")
    nodes = list(wanted)
    run = Initiator(process, share).restricted(
        next_path(share, process),
        [_stand_in(node) for node in roots],
        list(seeds),
        [_stand_in(node) for node in nodes],
        retain=retain,
        record=record,
        cut=cut,
    )
    run.wait(Deadline(None))
    run.finish()
    for node in nodes:
        sink(node, run.found(node))


def _stand_in(node: Node) -> Tensor:
    """A tensor of that node whose value nobody needs."""
    return Tensor(np.broadcast_to(np.zeros((), node.dtype), node.shape), node)
