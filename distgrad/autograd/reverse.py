"""One application of a function in reverse mode: its inputs are variables of its own, and cotangents can be pulled
back through it.

At the outside the variables live on the ordinary tape. A variable made from a recorded tensor is an alias of it, so
an inner derivative never sees where its argument came from, and the outer one follows both. Inside jvp and vmap,
whose values are boxes, the variables are lifted: a tape above these boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distgrad.errors import GradientError

from . import tape, tree
from .backward import own, run_pass
from .deferred import Deferred
from .lifted import Lifted
from .operands import check_direction, differentiable, namespace, ops
from .rows import Rows
from .tape import Alias, Leaf, Node
from .tensor import TENSOR_TYPES, Boxed, Tensor

Function = Callable[..., Any]


class Reverse:
    """One application of a function, recorded so that cotangents can be pulled back through it, any number of times.

    Attributes:
        value: tree of the results, as the caller sees them.
        aux: what else the function returned, under `has_aux`.
    """

    def __init__(self, f: Function, primals: Sequence[Any], has_aux: bool, deferring: bool = False) -> None:
        """
        Arguments:
            deferring: nobody wants the value, so its tensors may stay, some of them uncomputed.
        """
        leaves, self._inputs = tree.flatten(tuple(primals))
        check_differentiable(leaves, self._inputs)
        outside = tape.mode.get()
        # Inside jvp and vmap our arrays are their boxes.
        self._lifted = outside.boxes or any(isinstance(x, Boxed) for x in leaves)
        self._linked = self._lifted or outside.level > 0 or any(isinstance(x, Tensor) for x in leaves)
        self._primals = [x if isinstance(x, Tensor) else as_array(x) for x in leaves]
        self._deferring = deferring and not self._linked
        level = tape.next_level()
        with tape.entered(record=True, level=level, boxes=self._lifted, deferring=self._deferring):
            self._variables = [self._variable(x, level) for x in self._primals]
            result = arrived(f(*tree.unflatten(self._inputs, self._variables)))
        result, self.aux = split_aux(f, result, has_aux)
        outputs, self.outputs = tree.flatten(result)
        self._roots = [self._node(x, level) for x in outputs]
        inside = [self._seen_from_outside(x, level) for x in outputs]
        for k, x in enumerate(inside):
            if not hasattr(x, "dtype"):
                inside[k] = as_array(x, f"result{self.outputs.paths()[k]} of {name_of(f)}")
        self.results = inside
        self.value = tree.unflatten(self.outputs, inside)
        if has_aux:
            self.aux = tree.map(lambda x: self._seen_from_outside(x, level), self.aux)

    def _variable(self, x: Any, level: int) -> Tensor:
        if self._lifted:
            return Lifted.variable(x, level)
        frame = tape.mode.get().frame
        if isinstance(x, Tensor):
            return Tensor(x.data, Alias(x.node, frame, x.shape, x.dtype))
        return Tensor(x, Leaf(frame, x.shape, x.dtype))

    def _node(self, x: Any, level: int) -> Node | None:
        """The node of a result on our tape."""
        if self._lifted:
            return x.node if type(x) is Lifted and x.level == level else None
        return x.node if isinstance(x, Tensor) else None

    def _seen_from_outside(self, x: Any, level: int) -> Any:
        if self._lifted:
            return x.data if type(x) is Lifted and x.level == level else x
        refuse_escaped(x)
        if not isinstance(x, Tensor):
            return x
        if self._deferring:
            return x
        if not self._linked:
            return x.data
        return x if tape.mode.get().record else x.detach()

    def pull(self, cotangent: Any, *, retain: bool = True) -> tuple[Any, ...]:
        """The gradient of each primal, given a tree of cotangents of the results."""
        cotangents = tree.flatten_like(self.outputs, cotangent, "the cotangent")
        for k, (ct, result) in enumerate(zip(cotangents, self.results, strict=True)):
            if np.shape(ct) != result.shape:
                raise GradientError(
                    f"the cotangent{self.outputs.paths()[k]} has shape {np.shape(ct)}, but the result has shape "
                    f"{result.shape}"
                )
            check_direction(ct, result.dtype, f"the cotangent{self.outputs.paths()[k]}")
        linked = self._linked or any(isinstance(ct, Tensor) for ct in cotangents)
        # Rules of a lifted tape run on tensors anyhow. Others do so when what they compute is to be seen by someone.
        seen = (linked and tape.mode.get().record) or any(isinstance(ct, Boxed) for ct in cotangents)
        record = seen and not self._lifted
        seeded = [
            (node, _seed(ct, record)) for node, ct in zip(self._roots, cotangents, strict=True) if node is not None
        ]
        found: dict[Node, Any] = {}
        nodes = [variable.node for variable in self._variables]
        run_pass(
            [node for node, _ in seeded],
            [seed for _, seed in seeded],
            found.__setitem__,
            wanted={node for node in nodes if node is not None},
            cut=True,
            retain=retain,
            record=record,
        )
        handed_out = {id(tape.buffer_of(seed)) for _, seed in seeded}
        gradients = [
            own(_gradient(found.get(node), x, linked), handed_out)  # type: ignore[arg-type]
            for node, x in zip(nodes, self._primals, strict=True)
        ]
        return tuple(tree.unflatten(self._inputs, gradients))


def vjp(f: Function, *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The value of `f` and its pullback.

    Returns:
        (f(*primals), pullback), and with `has_aux` also what f returned beside its value. `pullback(cotangent)` takes
        a tree like the value and returns a tuple with the gradient of each primal; it may be called any number of
        times.

    >>> import distgrad as dg
    >>> y, pullback = dg.vjp(lambda x, y: x * y, 2.0, 3.0)
    >>> [float(g) for g in pullback(1.0)]
    [3.0, 2.0]
    """
    applied = Reverse(f, primals, has_aux)
    return (applied.value, applied.pull, applied.aux) if has_aux else (applied.value, applied.pull)


def pullback_of(f: Function, *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """The pullback of `f`, as `vjp` gives it, for who does not want the value: what no derivative needs may be left
    uncomputed. In the place of the value come tensors like it, for their shapes and dtypes.
    """
    applied = Reverse(f, primals, has_aux=False, deferring=True)
    return applied.value, applied.pull


def _seed(cotangent: Any, record: bool) -> Any:
    if isinstance(cotangent, Tensor):
        return cotangent
    array = np.asarray(cotangent) if not hasattr(cotangent, "dtype") else cotangent
    return Tensor(array) if record else array


def _gradient(gradient: Any, primal: Any, linked: bool) -> Any:
    """What a primal's gradient is to the caller: dense, zeros where there is none, a tensor when tensors are about."""
    if gradient is None:
        data = primal.data if type(primal) in TENSOR_TYPES else primal
        gradient = ops().zeros_like(data) if isinstance(data, Tensor) else namespace(data).zeros_like(data)
    if isinstance(gradient, Rows):
        gradient = gradient.dense()
    if isinstance(gradient, Tensor):
        return gradient if tape.mode.get().record else _detached(gradient)
    return Tensor(gradient) if linked else gradient


def _detached(x: Any) -> Any:
    return x.detach() if type(x) in TENSOR_TYPES else x


def check_differentiable(leaves: Sequence[Any], structure: tree.Structure) -> None:
    """Raises GradientError naming the first leaf of a tuple of arguments that has no gradient."""
    for k, x in enumerate(leaves):
        dtype = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
        if not differentiable(dtype):
            raise GradientError(
                f"argument{structure.paths()[k]} is {type(x).__name__} of dtype {dtype}, which has no gradient; "
                "convert it to floating point (2.0 instead of 2, x.astype('float64')) or leave it out of argnums"
            )


def refuse_escaped(x: Any) -> None:
    """Raises GradientError when a value that leaves the outermost transform belongs to a transform that has ended."""
    if isinstance(x, Boxed) and not tape.mode.get().boxes:
        raise GradientError(
            "a value from inside a transform was kept and used after that transform had ended; return it from the "
            "function instead, with has_aux=True if need be"
        )


def as_array(x: Any, what: str = "the argument") -> Any:
    """A number, NumPy scalar or array as an array."""
    if hasattr(x, "__array_namespace__"):
        return x
    array = np.asarray(x)
    if array.dtype.kind not in "biufcV":
        raise GradientError(f"{what} is {type(x).__name__}, not an array, a tensor, a number or a tree of these")
    return array


def arrived(result: Any) -> Any:
    """A function's result with the values, in place of references to values that other processes have."""
    return result if type(result) in _HERE else tree.map(_arrived, result)


# Results that surely hold none.
_HERE = frozenset({Tensor, Deferred, np.ndarray, np.float64, float})


def _arrived(leaf: Any) -> Any:
    fetch = getattr(type(leaf), "__distgrad_tensor__", None)
    return leaf if fetch is None else fetch(leaf)


def split_aux(f: Function, result: Any, has_aux: bool) -> tuple[Any, Any]:
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise GradientError(
            f"with has_aux=True, {name_of(f)} must return a pair (value, aux), not {type(result).__name__}"
        )
    return result


def name_of(f: Function) -> str:
    return getattr(f, "__qualname__", type(f).__name__)


def check_function(f: Any, transform: str, arguments: str = "(f)(x)") -> None:
    """Raises GradientError when what a transform was given is no function; `arguments` shows how it is called."""
    if not callable(f):
        raise GradientError(
            f"dg.{transform} takes a function: write dg.{transform}{arguments}; it got {type(f).__name__}"
        )


def bind(
    f: Function, argnums: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[int, ...], Function, list[Any]]:
    """The positions of `argnums`, `f` as a function of the arguments there, and these arguments."""
    given = (argnums,) if isinstance(argnums, int) else argnums
    if not isinstance(given, Sequence) or not all(isinstance(n, int) for n in given):
        raise GradientError(f"argnums={argnums!r}: expected the position of an argument or a tuple of positions")
    for n in given:
        if not -len(args) <= n < len(args):
            raise GradientError(
                f"argnums={argnums}, but {name_of(f)} was called with {len(args)} positional arguments; "
                "arguments to differentiate by are passed by position"
            )
    positions = tuple(n % len(args) for n in given)
    if len(set(positions)) < len(positions):
        raise GradientError(f"argnums={argnums} names an argument twice")

    def partial(*chosen: Any) -> Any:
        full = list(args)
        for n, x in zip(positions, chosen, strict=True):
            full[n] = x
        return f(*full, **kwargs)

    partial.__qualname__ = name_of(f)
    return positions, partial, [args[n] for n in positions]
