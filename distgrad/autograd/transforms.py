"""Derivatives of functions: `grad`, `vjp`, `jvp` and what follows from them.

Each transform takes a function and gives a function. Arguments are trees (see tree.py). Arrays and numbers in, arrays out;
tensors in, or inside another transform, tensors out, so transforms nest in any order and to any depth.

Reverse mode runs `f` on variables of its own (`Reverse`): at the outside on the ordinary tape, inside jvp and vmap on a lifted one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from distgrad.errors import GradientError

from . import tape, tree
from .backward import run_pass
from .forward import Dual
from .lifted import Lifted
from .primitive import differentiable, namespace, ops
from .rows import Rows
from .tape import Alias, Leaf, Node
from .tensor import Boxed, Tensor

Function = Callable[..., Any]


# ---- reverse mode -----------------------------------------------------------------------------------------------------


class Reverse:
    """One application of a function, recorded so that cotangents can be pulled back through it, any number of times.

    Attributes:
        value: tree of the results, as the caller sees them.
        aux: what else the function returned, under `has_aux`.
    """

    def __init__(self, f: Function, primals: Sequence[Any], has_aux: bool) -> None:
        leaves, self._inputs = tree.flatten(tuple(primals))
        check_differentiable(leaves, self._inputs)
        outside = tape.mode.get()
        # Inside jvp and vmap our arrays are their boxes.
        self._lifted = outside.boxes or any(isinstance(x, Boxed) for x in leaves)
        self._linked = self._lifted or outside.level > 0 or any(isinstance(x, Tensor) for x in leaves)
        self._primals = [x if isinstance(x, Tensor) else _array(x) for x in leaves]
        level = outside.level + 1
        with tape.entered(record=True, level=level):
            self._variables = [self._variable(x, level) for x in self._primals]
            result = f(*tree.unflatten(self._inputs, self._variables))
        result, self.aux = _split_aux(f, result, has_aux)
        outputs, self.outputs = tree.flatten(result)
        self._roots = [self._node(x, level) for x in outputs]
        inside = [self._seen_from_outside(x, level) for x in outputs]
        for k, x in enumerate(inside):
            if not hasattr(x, "dtype"):
                inside[k] = _array(x, f"result{self.outputs.paths()[k]} of {_name(f)}")
        self.results = inside
        self.value = tree.unflatten(self.outputs, inside)
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
        if not isinstance(x, Tensor):
            return x
        if not self._linked:
            return x.data
        return x if tape.mode.get().record else x.detach()

    def pull(self, cotangent: Any, *, retain: bool = True) -> tuple[Any, ...]:
        """The gradient of each primal, given a tree of cotangents of the results."""
        cotangents = tree.flatten_like(self.outputs, cotangent, "the cotangent")
        for path, ct, result in zip(self.outputs.paths(), cotangents, self.results, strict=True):
            if np.shape(ct) != result.shape:
                raise GradientError(f"the cotangent{path} has shape {np.shape(ct)}, but the result has shape {result.shape}")
        linked = self._linked or any(isinstance(ct, Tensor) for ct in cotangents)
        # Rules of a lifted tape run on tensors anyhow, and its levels take care of what is recorded where.
        record = linked and not self._lifted
        seeded = [(node, _seed(ct, record)) for node, ct in zip(self._roots, cotangents, strict=True) if node is not None]
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
        gradients = [
            _gradient(found.get(node), x, linked)  # type: ignore[arg-type]
            for node, x in zip(nodes, self._primals, strict=True)
        ]
        return tuple(tree.unflatten(self._inputs, gradients))


def _seed(cotangent: Any, record: bool) -> Any:
    if isinstance(cotangent, Tensor):
        return cotangent
    array = np.asarray(cotangent) if not hasattr(cotangent, "dtype") else cotangent
    return Tensor(array) if record else array


def _gradient(gradient: Any, primal: Any, linked: bool) -> Any:
    """What a primal's gradient is to the caller: dense, zeros where there is none, a tensor when tensors are about."""
    if gradient is None:
        data = primal.data if type(primal) is Tensor else primal
        gradient = ops().zeros_like(data) if isinstance(data, Tensor) else namespace(data).zeros_like(data)
    if isinstance(gradient, Rows):
        gradient = gradient.dense()
    if isinstance(gradient, Tensor):
        return gradient if tape.mode.get().record else _detached(gradient)
    return Tensor(gradient) if linked else gradient


def _detached(x: Any) -> Any:
    return x.detach() if type(x) is Tensor else x


def check_differentiable(leaves: Sequence[Any], structure: tree.Structure) -> None:
    """Raises GradientError naming the first leaf of a tuple of arguments that has no gradient."""
    for k, x in enumerate(leaves):
        dtype = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
        if not differentiable(dtype):
            raise GradientError(
                f"argument{structure.paths()[k]} is {type(x).__name__} of dtype {dtype}, which has no gradient; convert it "
                "to floating point (2.0 instead of 2, x.astype('float64')) or leave it out of argnums"
            )


def _array(x: Any, what: str = "the argument") -> Any:
    """A number, NumPy scalar or array as an array."""
    if hasattr(x, "__array_namespace__"):
        return x
    array = np.asarray(x)
    if array.dtype == object:
        raise GradientError(f"{what} is {type(x).__name__}, not an array, a tensor, a number or a tree of these")
    return array


def _split_aux(f: Function, result: Any, has_aux: bool) -> tuple[Any, Any]:
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise GradientError(f"with has_aux=True, {_name(f)} must return a pair (value, aux), not {type(result).__name__}")
    return result


def _name(f: Function) -> str:
    return getattr(f, "__qualname__", type(f).__name__)


def vjp(f: Function, *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The value of `f` and its pullback.

    Returns:
        (f(*primals), pullback), and with `has_aux` also what f returned beside its value. `pullback(cotangent)` takes a tree
        like the value and returns a tuple with the gradient of each primal; it may be called any number of times.

    >>> import distgrad as dg
    >>> y, pullback = dg.vjp(lambda x, y: x * y, 2.0, 3.0)
    >>> [float(g) for g in pullback(1.0)]
    [3.0, 2.0]
    """
    applied = Reverse(f, primals, has_aux)
    return (applied.value, applied.pull, applied.aux) if has_aux else (applied.value, applied.pull)


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """Like `grad`, but the function returns (value, gradient); with `has_aux` ((value, aux), gradient)."""
    check_function(f, "value_and_grad")

    @wraps(f, updated=())
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        positions, partial, primals = bind(f, argnums, args, kwargs)
        applied = Reverse(partial, primals, has_aux)
        gradients = applied.pull(_one_for(f, applied), retain=False)
        gradient = gradients[0] if isinstance(argnums, int) else gradients
        return ((applied.value, applied.aux) if has_aux else applied.value), gradient

    return value_and_gradient


def grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The gradient of a scalar function.

    Arguments:
        f: returns one real scalar; with `has_aux` a pair (scalar, anything else).
        argnums: position of the argument to differentiate by, a tree of floating-point or complex arrays, or a tuple of positions.

    Returns:
        a function of the same arguments that returns the gradient, a tree like the argument (a tuple of them for a tuple of
        positions); with `has_aux` a pair (gradient, aux). The gradient by a complex argument is that of steepest ascent.

    >>> import distgrad as dg
    >>> float(dg.grad(lambda x: x * x)(3.0))
    6.0
    """
    check_function(f, "grad")
    with_value = value_and_grad(f, argnums, has_aux)

    @wraps(f, updated=())
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, found = with_value(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def _one_for(f: Function, applied: Reverse) -> Any:
    """The cotangent 1 of a result that must be one real scalar."""
    results = applied.results
    if len(results) != 1:
        raise GradientError(
            f"{_name(f)} returned a tree of {len(results)} arrays, and only a scalar has a gradient; "
            "use has_aux=True to return more beside it, or dg.vjp / dg.jacobian"
        )
    (y,) = results
    if y.shape != () and np.prod(y.shape) != 1:
        raise GradientError(
            f"{_name(f)} returned an array of shape {y.shape}, and only a scalar has a gradient; "
            "sum it, or use dg.vjp, dg.jacobian or dg.vmap(dg.grad(f))"
        )
    if "complex" in str(y.dtype):
        raise GradientError(
            f"{_name(f)} returned a complex value, and only a real one has a gradient; "
            "take its real part or absolute value, or choose a direction with dg.vjp"
        )
    if not differentiable(y.dtype):
        raise GradientError(f"{_name(f)} returned {y.dtype}, which is constant almost everywhere; return a floating-point value")
    return tree.unflatten(applied.outputs, [np.ones(y.shape, _numpy_dtype(y.dtype))])


def _numpy_dtype(dtype: Any) -> Any:
    return dtype if isinstance(dtype, np.dtype) else np.float64


def check_function(f: Any, transform: str) -> None:
    """Raises GradientError when what a transform was given is no function."""
    if not callable(f):
        raise GradientError(
            f"dg.{transform} takes a function and returns one: write dg.{transform}(f)(x); it got {type(f).__name__}"
        )


def bind(
    f: Function, argnums: int | Sequence[int], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[int, ...], Function, list[Any]]:
    """The positions of `argnums`, `f` as a function of the arguments there, and these arguments."""
    given = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for n in given:
        if not -len(args) <= n < len(args):
            raise GradientError(
                f"argnums={argnums}, but {_name(f)} was called with {len(args)} positional arguments; "
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

    partial.__qualname__ = _name(f)
    return positions, partial, [args[n] for n in positions]


# ---- forward mode -----------------------------------------------------------------------------------------------------


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> tuple[Any, ...]:
    """The value of `f` and its directional derivative along `tangents`, by forward mode.

    Arguments:
        primals, tangents: tuples of trees, one for each argument of `f`, of equal structure and shapes.

    Returns:
        (value, tangent), trees alike; with `has_aux` (value, tangent, aux).

    >>> import distgrad as dg
    >>> value, tangent = dg.jvp(lambda x: x * x, (3.0,), (1.0,))
    >>> float(value), float(tangent)
    (9.0, 6.0)
    """
    check_function(f, "jvp")
    for name, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, tuple | list):
            raise GradientError(f"dg.jvp takes {name} as a tuple with one entry an argument, not {type(given).__name__}")
    values, structure = tree.flatten(tuple(primals))
    directions = tree.flatten_like(structure, tuple(tangents), "the tuple of tangents")
    check_differentiable(values, structure)
    for path, x, t in zip(structure.paths(), values, directions, strict=True):
        if np.shape(x) != np.shape(t):
            raise GradientError(f"tangents{path} has shape {np.shape(t)}, but primals{path} has shape {np.shape(x)}")
    outside = tape.mode.get()
    linked = outside.level > 0 or any(isinstance(x, Tensor) for x in (*values, *directions))
    level = outside.level + 1
    with tape.entered(record=True, level=level, boxes=True):
        boxes = [Dual(_tensor(x), _tangent(t, x), level) for x, t in zip(values, directions, strict=True)]
        result = f(*tree.unflatten(structure, boxes))
    result, aux = _split_aux(f, result, has_aux)
    outputs, shape = tree.flatten(result)

    def outward(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return Tensor(_array(x)) if linked else _array(x)
        if type(x) is not Tensor:
            return x
        return x.data if not linked else x if outside.record else x.detach()

    def primal(x: Any) -> Any:
        return outward(x.data if type(x) is Dual and x.level == level else x)

    def tangent(x: Any) -> Any:
        if type(x) is Dual and x.level == level:
            return outward(x.tangent)
        return outward(ops().zeros_like(x if isinstance(x, Tensor) else _array(x)))

    value = tree.unflatten(shape, [primal(y) for y in outputs])
    derivative = tree.unflatten(shape, [tangent(y) for y in outputs])
    return (value, derivative, tree.map(primal, aux)) if has_aux else (value, derivative)


def _tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(_array(x))


def _tangent(t: Any, primal: Any) -> Tensor:
    """A tangent as a tensor in the dtype of its primal."""
    tangent = _tensor(t)
    dtype = _tensor(primal).dtype
    return tangent if tangent.dtype == dtype else ops().astype(tangent, dtype=dtype)


def linear_transpose_jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The directional derivative of `f` by reverse mode alone: the pullback is linear in its cotangent, and its own pullback is the jvp.

    Tangents may be None where an argument has none.
    """
    moving = [i for i, t in enumerate(tangents) if t is not None]

    def partial(*chosen: Any) -> Any:
        full = list(primals)
        for i, x in zip(moving, chosen, strict=True):
            full[i] = x
        return f(*full)

    value, pullback = vjp(partial, *(primals[i] for i in moving))
    zeros = tree.map(lambda y: ops().zeros_like(y), value)
    _, transposed = vjp(pullback, zeros)
    return transposed(tuple(tangents[i] for i in moving))[0]
