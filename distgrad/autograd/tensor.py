"""The tensor: one array and, when recorded, the tape node that made it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from distgrad.errors import GradientError, InPlaceError

from . import tape
from .tape import Leaf, Node

if TYPE_CHECKING:
    from collections.abc import Callable

    from .primitive import Primitive

# Exact types that hold an array and a node of level 0: the fast path of every operation.
TENSOR_TYPES: set[type] = set()


class Tensor:
    """An array whose operations can be recorded.

    Arithmetic, indexing and NumPy's functions work on it as on an array; they are attached by `operators.py`. A
    tensor *requires grad* when it is a variable (`dg.tensor(x, requires_grad=True)`) or was computed from one while
    recording was on.

    Attributes:
        data: the array, of any namespace that array_api_compat understands. Not to be written to; see `set_data`.
        node: its node on the tape, or None.
    """

    __slots__ = ("__weakref__", "data", "node")

    data: Any
    node: Node | None

    # NumPy leaves mixed operations to us rather than looping over our elements.
    __array_priority__ = 1000.0

    def __init__(self, data: Any, node: Node | None = None) -> None:
        self.data = data
        self.node = node

    def __init_subclass__(cls, boxed: bool = False) -> None:
        if not boxed:
            TENSOR_TYPES.add(cls)

    # ---- what it is --------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return len(self.data.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.data.shape, dtype=np.int64))

    @property
    def requires_grad(self) -> bool:
        return self.node is not None

    @property
    def is_leaf(self) -> bool:
        """True for variables and for tensors outside any graph."""
        return self.node is None or isinstance(self.node, Leaf)

    @property
    def grad(self) -> Any:
        """The gradient that local backward passes accumulated in this variable, as an array; None before the first."""
        return self.node.grad if isinstance(self.node, Leaf) else None

    @grad.setter
    def grad(self, value: Any) -> None:
        if not isinstance(self.node, Leaf):
            raise GradientError(
                f"{self!r} is no variable, so it has no .grad; only leaves made with requires_grad=True do"
            )
        self.node.grad = value

    # ---- data --------------------------------------------------------------------------------------------------------

    def numpy(self) -> Any:
        """The value as a NumPy array, read-only, without gradients."""
        array = np.asarray(self.data)
        if array.flags.writeable:
            array = array.view()
            array.flags.writeable = False
        return array

    def item(self) -> Any:
        """The value of a one-element tensor as a Python number."""
        return self.data.item()

    def tolist(self) -> Any:
        """The value as nested lists of Python numbers."""
        return self.data.tolist()

    def detach(self) -> Tensor:
        """The same array as a tensor outside any graph."""
        return Tensor(self.data)

    def set_data(self, data: Any) -> None:
        """Gives a variable a new array of the same shape and dtype. Graphs recorded before keep the old one."""
        if not self.is_leaf:
            raise InPlaceError(f"{self!r} was computed from other tensors; only variables can be given new data")
        if data.shape != self.shape or data.dtype != self.dtype:
            raise GradientError(
                f"a variable of shape {self.shape} and dtype {self.dtype} cannot take data of shape {data.shape} and "
                f"dtype {data.dtype}"
            )
        self.data = data
        if isinstance(self.node, tape.Leaf):
            tape.clock.renew(self.node)

    def __setitem__(self, index: Any, value: Any) -> None:
        """Writes into the array. A recorded tensor refuses; a later backward pass over the old values raises."""
        if self.node is not None and tape.mode.get().record:
            raise InPlaceError(
                "a tensor that requires grad cannot be written to in place; use dg.ops.set_at(x, index, value), which "
                "returns a new tensor, or write under dg.no_grad()"
            )
        if isinstance(self.data, np.generic):  # what NumPy computes of arrays without axes is a number
            self.data = np.array(self.data)
        tape.clock.write(self.data)
        self.data[index] = value.data if isinstance(value, Tensor) else value

    # ---- gradients ---------------------------------------------------------------------------------------------------

    def backward(
        self,
        gradient: Any = None,
        *,
        inputs: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Accumulates the gradient of this tensor in `.grad` of the variables it was computed from.

        Arguments:
            gradient: seed of this tensor's shape; may be left out for a scalar.
            inputs: only these variables receive a gradient.
            retain_graph: keep what the graph saved, for another pass. Default: `create_graph`.
            create_graph: record the pass itself; `.grad` then holds tensors that can be differentiated again.

        Raises:
            GradientError: the tensor is not recorded, the seed does not fit it, or an operation has no gradient.
            FreedGraphError: an earlier pass has freed what this one needs.
            InPlaceError: an array that it needs was written to.
        """
        from .backward import backward

        backward([self], [gradient], inputs=inputs, retain_graph=retain_graph, create_graph=create_graph)

    def register_hook(self, hook: Callable[[Any], Any]) -> Callable[[], None]:
        """Calls `hook(gradient)` once per pass with the complete gradient; a result that is not None replaces it.

        Returns a function that removes the hook.
        """
        if self.node is None:
            raise GradientError(f"{self!r} does not require grad, so no gradient will reach the hook")
        hooks = self.node.hooks = self.node.hooks or []
        hooks.append(hook)
        return lambda: hooks.remove(hook)

    # ---- Python ------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        if not self.data.shape:
            raise TypeError("len() of a zero-dimensional tensor")
        return int(self.data.shape[0])

    def __bool__(self) -> bool:
        return bool(self.data)

    def __float__(self) -> float:
        return float(self.data)

    def __int__(self) -> int:
        return int(self.data)

    def __index__(self) -> int:
        return self.data.__index__()  # type: ignore[no-any-return]

    def __complex__(self) -> complex:
        return complex(self.data)

    def __format__(self, spec: str) -> str:
        return format(self.data.item() if spec and self.size == 1 else str(self), spec)

    # Equality is elementwise, as NumPy's; identity is what dicts and sets go by.
    __hash__ = object.__hash__

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """A variable with a copy of the value and no gradient; outside any graph, just a copy. Computed tensors
        refuse.
        """
        if not self.is_leaf:
            raise GradientError(
                "a tensor computed from others cannot be copied with its history; detach() it first, or copy the "
                "variables"
            )
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.data = copy.deepcopy(self.data, memo)
        copied.node = None if self.node is None else Leaf(self.node.frame, self.shape, self.dtype)
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("tensors are not pickled: save x.numpy(), and make a variable of it again with dg.tensor")

    def __repr__(self) -> str:
        text = np.array2string(np.asarray(self.data), separator=", ", prefix="tensor(")
        note = ", requires_grad" if self.node is not None else ""
        return f"tensor({text}, dtype={self.dtype}{note})"

    if TYPE_CHECKING:
        # Attached by operators.py from one table.
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __getattr__(self, name: str) -> Any: ...


TENSOR_TYPES.add(Tensor)


def tensor(data: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with its own copy of `data` (array, number, nested lists, or a tensor, whose history is left behind).

    With `requires_grad=True` it is a variable: operations on it are recorded and backward passes accumulate in its
    `.grad`. Integers and booleans are carried but have no gradient; asking for one raises GradientError.
    """
    if isinstance(data, Tensor):
        data = data.data
    if hasattr(data, "__array_namespace__") and not isinstance(data, np.ndarray | np.generic):
        array = data.astype(dtype) if dtype is not None else data.copy() if hasattr(data, "copy") else data
    else:
        array = np.array(data, dtype=dtype)
        if array.dtype.kind not in "biufcV":  # bfloat16 is of kind V
            raise GradientError(f"dg.tensor takes numbers, and {data!r} are none")
    return variable(array) if requires_grad else Tensor(array)


def variable(array: Any) -> Tensor:
    """A leaf over `array` itself, not a copy."""
    from .operands import differentiable

    if not differentiable(array.dtype):
        raise GradientError(
            f"only floating-point and complex tensors have gradients, and this one is {array.dtype}; "
            "convert it first, e.g. dg.tensor(x, dtype='float32', requires_grad=True)"
        )
    return Tensor(array, Leaf(tape.mode.get().frame, array.shape, array.dtype))


class Boxed(Tensor, boxed=True):
    """A value seen by one transform (jvp, vmap, or grad inside one of them): wraps what the transforms around it see.

    Transforms nest, so boxes nest; each carries the level of its transform. An operation is handled by the innermost
    transform among its operands, which hands what is left to the next; so derivatives of different transforms never
    mix (Siskind & Pearlmutter, "Perturbation confusion in forward automatic differentiation", 2005).
    """

    __slots__ = ("level",)

    level: int

    def numpy(self) -> Any:
        return self.data.numpy() if isinstance(self.data, Tensor) else super().numpy()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.data!r})"

    def detach(self) -> Tensor:
        from .rules.identity import detach

        return detach(self)  # type: ignore[no-any-return]

    @classmethod
    def apply(cls, op: Primitive, level: int, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Applies `op` for the transform at `level`; operands of other levels are constants to it."""
        raise TypeError(f"{cls.__name__} does not say how operations act on it")


def apply_boxed(op: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    """Applies `op` to operands of which at least one is boxed: the highest level goes first."""
    top = max((a for a in args if isinstance(a, Boxed)), key=lambda box: box.level)
    return type(top).apply(op, top.level, args, params)
