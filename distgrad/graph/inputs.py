"""What a restricted pass finds gradients for: tensors of the initiator, values elsewhere, the parameters of shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distgrad.autograd.backward import require_node
from distgrad.autograd.tape import Leaf
from distgrad.autograd.tensor import Tensor
from distgrad.errors import GradientError

from .handles import ShardHandle
from .refs import Ref
from .tangents import refuse_passes

if TYPE_CHECKING:
    from .process import Process


@dataclass(frozen=True, slots=True)
class Remote:
    """The parameters of a shard, on its worker."""

    worker: str
    shard: str


Input = Tensor | Ref | Remote


def find_inputs(process: Process, inputs: Any) -> list[Input]:
    """One or more inputs as a user names them, checked. May wait to learn where a shard is.

    Raises:
        GradientError: one is neither a recorded tensor, nor a Ref, nor a handle.
        CannotTravel: this is inside a jvp.
    """
    refuse_passes()
    return [_find(process, item, k) for k, item in enumerate(inputs if isinstance(inputs, list | tuple) else [inputs])]


def _find(process: Process, item: Any, position: int) -> Input:
    if isinstance(item, ShardHandle):
        found = process.find_shard(item.shard_name)
        process.executor.wait(found, what=f"where shard {item.shard_name!r} is")
        return Remote(found.result()[0], item.shard_name)
    if isinstance(item, Tensor):
        require_node(item, f"input {position}")
        return item
    if isinstance(item, Ref):
        return item
    raise GradientError(f"input {position} must be a tensor, a Ref or a shard's handle, not {type(item).__name__}")


def find_variables(process: Process, inputs: Any) -> list[Input]:
    """Inputs that accumulate gradients.

    Raises:
        GradientError: one is computed.
    """
    found = find_inputs(process, inputs)
    for k, item in enumerate(found):
        if isinstance(item, Ref) or (isinstance(item, Tensor) and not isinstance(item.node, Leaf)):
            raise GradientError(
                f"input {k} is computed, and only variables accumulate gradients; use ctx.grad(roots, inputs)"
            )
    return found
