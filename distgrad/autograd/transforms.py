"""Derivatives of functions: `grad`, `vjp`, `jvp` and what follows from them.

Each transform takes a function and gives a function. Arguments are trees (see tree.py). Arrays and numbers in, arrays
out; tensors in, or inside another transform, tensors out, so transforms nest in any order and to any depth.

Reverse mode is in reverse.py, forward mode in forward.py, what is made of both in jacobians.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from distgrad.errors import CannotTravel, GradientError

from . import tape, tree
from .forward import Dual
from .operands import check_direction, differentiable, namespace, ops
from .reverse import (
    Function,
    Reverse,
    arrived,
    as_array,
    bind,
    check_differentiable,
    check_function,
    name_of,
    refuse_escaped,
    split_aux,
    vjp,
)
from .scoped import Scoped
from .tensor import Tensor

# ---- reverse mode ----------------------------------------------------------------------------------------------------


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """Like `grad`, but the function returns (value, gradient); with `has_aux` ((value, aux), gradient).

    >>> import distgrad as dg
    >>> value, gradient = dg.value_and_grad(lambda x: x * x)(3.0)
    >>> float(value), float(gradient)
    (9.0, 6.0)
    """
    check_function(f, "value_and_grad")

    @wraps(f, updated=())
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        _, partial, primals = bind(f, argnums, args, kwargs)
        with tape.outermost():
            applied = Reverse(partial, primals, has_aux)
            gradients = applied.pull(_one_for(f, applied), retain=False)
        gradient = gradients[0] if isinstance(argnums, int) else gradients
        return ((applied.value, applied.aux) if has_aux else applied.value), gradient

    return value_and_gradient


def grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The gradient of a scalar function.

    Arguments:
        f: returns one real scalar; with `has_aux` a pair (scalar, anything else).
        argnums: position of the argument to differentiate by, a tree of floating-point or complex arrays, or a tuple
            of positions.

    Returns:
        a function of the same arguments that returns the gradient, a tree like the argument (a tuple of them for a
        tuple of positions); with `has_aux` a pair (gradient, aux). The gradient by a complex argument is that of
        steepest ascent.

    Raises (as do the functions made by all transforms):
        GradientError: an argument to differentiate by is not floating-point or complex, the value is not what the
            transform takes (here: one real scalar), or an operation on the way has no gradient.

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
            f"{name_of(f)} returned a tree of {len(results)} arrays, and only a scalar has a gradient; "
            "use has_aux=True to return more beside it, or dg.vjp / dg.jacobian"
        )
    (y,) = results
    if y.shape != () and np.prod(y.shape) != 1:
        raise GradientError(
            f"{name_of(f)} returned an array of shape {y.shape}, and only a scalar has a gradient; "
            "sum it, or use dg.vjp, dg.jacobian or dg.vmap(dg.grad(f))"
        )
    if "complex" in str(y.dtype):
        raise GradientError(
            f"{name_of(f)} returned a complex value, and only a real one has a gradient; "
            "take its real part or absolute value, or choose a direction with dg.vjp"
        )
    if not differentiable(y.dtype):
        raise GradientError(
            f"{name_of(f)} returned {y.dtype}, which is constant almost everywhere; return a floating-point value"
        )
    return tree.unflatten(applied.outputs, [np.ones(y.shape, _numpy_dtype(y.dtype))])


def _numpy_dtype(dtype: Any) -> Any:
    return dtype if isinstance(dtype, np.dtype) else np.float64


# ---- forward mode ----------------------------------------------------------------------------------------------------


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> tuple[Any, ...]:
    """The value of `f` and its directional derivative along `tangents`, by forward mode.

    Arguments:
        primals, tangents: tuples of trees, one for each argument of `f`, of equal structure and shapes.

    Where `f` calls shards, tangents travel with their primals, and `f` runs once. Where they cannot, `f` runs again and
    the result is found by reverse mode: two passes, which record what they do. That is so when, inside `f` or a method
    it calls, a shard is called within `dg.grad`, `dg.vjp`, `dg.linearize`, `dg.hessian` or `dg.hvp` of the value (or
    within a pullback of them, as a rule of `dg.custom_vjp` may), and when `ctx.backward` or `ctx.grad` is.

    Returns:
        (value, tangent), trees alike; with `has_aux` (value, tangent, aux).

    >>> import distgrad as dg
    >>> value, tangent = dg.jvp(lambda x: x * x, (3.0,), (1.0,))
    >>> float(value), float(tangent)
    (9.0, 6.0)
    """
    check_function(f, "jvp", "(f, (x,), (tangent,))")
    with tape.outermost():
        try:
            return jvp_forward(f, primals, tangents, has_aux)
        except CannotTravel:
            if tape.mode.get().boxes:
                raise
            return _forward_in_reverse(f, primals, tangents, has_aux)


def jvp_forward(f: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool) -> tuple[Any, ...]:
    """`jvp` by values that carry tangents."""
    for name, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, tuple | list):
            raise GradientError(
                f"dg.jvp takes {name} as a tuple with one entry an argument, not {type(given).__name__}"
            )
    values, structure = tree.flatten(tuple(primals))
    directions = tree.flatten_like(structure, tuple(tangents), "the tuple of tangents")
    check_differentiable(values, structure)
    for path, x, t in zip(structure.paths(), values, directions, strict=True):
        if np.shape(x) != np.shape(t):
            raise GradientError(f"tangents{path} has shape {np.shape(t)}, but primals{path} has shape {np.shape(x)}")
        check_direction(t, _tensor(x).dtype, f"tangents{path}")
    outside = tape.mode.get()
    linked = outside.level > 0 or any(isinstance(x, Tensor) for x in (*values, *directions))
    level = tape.next_level()
    follow: list[Callable[[], None]] = []
    with (
        tape.entered(record=True, level=level, boxes=True, jvps=(*outside.jvps, level)),
        Scoped(tape.followed, follow),
    ):
        boxes = [Dual(_tensor(x), _tangent(t, x), level) for x, t in zip(values, directions, strict=True)]
        result = arrived(f(*tree.unflatten(structure, boxes)))
        for call in follow:
            call()
    result, aux = split_aux(f, result, has_aux)
    outputs, shape = tree.flatten(result)

    def outward(x: Any) -> Any:
        refuse_escaped(x)
        if not isinstance(x, Tensor):
            return Tensor(as_array(x)) if linked else as_array(x)
        if type(x) is not Tensor:
            return x
        return x.data if not linked else x if outside.record else x.detach()

    def primal(x: Any) -> Any:
        return outward(x.data if type(x) is Dual and x.level == level else x)

    def tangent(x: Any) -> Any:
        if type(x) is Dual and x.level == level:
            return outward(x.tangent)
        return outward(ops().zeros_like(x if isinstance(x, Tensor) else as_array(x)))

    value = tree.unflatten(shape, [primal(y) for y in outputs])
    derivative = tree.unflatten(shape, [tangent(y) for y in outputs])
    return (value, derivative, tree.map(primal, aux)) if has_aux else (value, derivative)


def _forward_in_reverse(f: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool) -> tuple[Any, ...]:
    """`jvp` of a function that calls other processes in ways that tangents cannot follow: the pullback is linear in its
    cotangent, and its own pullback is the jvp. The function runs once more."""
    aux: list[Any] = []

    def smooth(*xs: Any) -> Any:
        result, other = split_aux(f, arrived(f(*xs)), has_aux)
        aux[:] = [other]
        return result

    value, tangent_of = linearize(smooth, *primals)
    return (value, tangent_of(*tangents), *aux) if has_aux else (value, tangent_of(*tangents))


def _tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(as_array(x))


def _tangent(t: Any, primal: Any) -> Tensor:
    """A tangent as a tensor in the dtype of its primal."""
    tangent = _tensor(t)
    dtype = _tensor(primal).dtype
    return tangent if tangent.dtype == dtype else ops().astype(tangent, dtype=dtype)


def linear_transpose_jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The directional derivative of `f` by reverse mode alone: the pullback is linear in its cotangent, and its own
    pullback is the jvp.

    Tangents may be None where an argument has none. Returns a list with the tangent of each result that has
    derivatives.
    """
    moving = [i for i, t in enumerate(tangents) if t is not None]

    def smooth(*chosen: Any) -> list[Any]:
        """The results that have derivatives."""
        full = list(primals)
        for i, x in zip(moving, chosen, strict=True):
            full[i] = x
        return [y for y in tree.flatten(f(*full))[0] if differentiable(y.dtype)]

    value, pullback = vjp(smooth, *(primals[i] for i in moving))
    _, transposed = vjp(pullback, tree.map(ops().zeros_like, value))
    return transposed(tuple(tangents[i] for i in moving))[0]


def linearize(f: Function, *primals: Any) -> tuple[Any, Function]:
    """The value of `f` and its derivative there as a linear function of the tangents, which may be applied any number
    of times.

    `f` itself runs once: the map is the transpose of its pullback.

    >>> import distgrad as dg
    >>> value, tangent_of = dg.linearize(lambda x: x * x, 3.0)
    >>> float(tangent_of(1.0)), float(tangent_of(2.0))
    (6.0, 12.0)
    """
    check_function(f, "linearize", "(f, x)")
    value, pullback = vjp(f, *primals)
    # Arrays where the value is arrays, so that tangents are so too.
    _, transposed = vjp(pullback, tree.map(lambda y: namespace(y).zeros_like(y), value))

    def tangent_of(*tangents: Any) -> Any:
        return transposed(tangents)[0]

    return value, tangent_of


def stop_gradient(x: Any) -> Any:
    """A tree of the same values as constants: no gradient goes through them and no tangent comes out of them."""
    return tree.map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, x)
