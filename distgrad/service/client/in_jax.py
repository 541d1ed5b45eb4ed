"""Served functions inside JAX: `f.as_jax()`, under jit, vmap, grad, jacfwd, jacrev, and all of them once more.

Each of the five products of `flat` is one primitive of JAX. Their derivatives and transposes are bound as primitives
again, so JAX never looks into the calls to the server, which are host callbacks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from distgrad.wire.dtypes import Array

from .flat import DERIVATIVE, IS_LIKE, LINEAR_IN, Arrays, FlatFunction, Product

if TYPE_CHECKING:
    from .function import RemoteFunction


# Points of a batch that are asked for at a time.
AT_A_TIME = 8


def as_jax(function: RemoteFunction) -> Callable[..., Any]:
    """The function for trees of JAX arrays.

    JAX must know shapes and element types of the value before it is computed. What is declared of the function, by
    `@dg.served(takes=..., gives=...)`, says them; where it leaves something open, the function is evaluated once, with
    ones, for every shape of its arguments that is new.
    """
    known: dict[Any, tuple[Any, tuple[jax.ShapeDtypeStruct, ...]]] = {}

    def call(*args: Any, **kwargs: Any) -> Any:
        flat = FlatFunction(function, args, kwargs, _dtype)
        operands = [jnp.asarray(x) for x in flat.operands]
        key = (flat.key, tuple((x.shape, x.dtype) for x in operands))
        if key not in known:
            values = flat.declared(operands) or flat("value", [np.ones(x.shape, x.dtype) for x in operands])
            shapes = tuple(jax.ShapeDtypeStruct(y.shape, jax.dtypes.canonicalize_dtype(y.dtype)) for y in values)
            known[key] = flat.outputs, shapes
        flat.outputs, shapes = known[key]
        return flat.result(_product.bind(*operands, flat=flat, product="value", shapes=_Shapes(shapes), batch=()))

    call.__name__, call.__doc__ = function.name, f"{function!r}, for arrays of JAX."
    return call


def _dtype(leaf: Any) -> Any:
    arrays = jax.Array | np.ndarray | np.generic | float | complex
    return jnp.result_type(leaf) if isinstance(leaf, arrays) else None


class _Shapes:
    """Shapes and element types of the value's leaves; equal to itself only."""

    def __init__(self, leaves: tuple[jax.ShapeDtypeStruct, ...]) -> None:
        self.leaves = leaves


# Operands: those of the function, then what the product is linear in. With a batch of axes of lengths (b, ...), each
# has as many more axes in front, of these lengths or of length one.
_product = Primitive("distgrad_product")
_product.multiple_results = True


def _groups(flat: FlatFunction, product: Product, shapes: _Shapes, given: Sequence[Any]) -> list[list[Any]]:
    """The operands of the function, and each list of what the product is linear in."""
    sizes = {"moving": flat.moving, "value": len(shapes.leaves)}
    linear = [sizes[kind] for kind in LINEAR_IN[product]]
    ends = list(itertools.accumulate([len(given) - sum(linear), *linear]))
    return [list(given[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def _results(flat: FlatFunction, product: Product, shapes: _Shapes, batch: tuple[int, ...], given: Any) -> list[Any]:
    """Shapes and element types of a product."""
    if IS_LIKE[product] == "value":
        return [jax.ShapeDtypeStruct((*batch, *y.shape), y.dtype) for y in shapes.leaves]
    moving = [(x.shape[len(batch) :], x.dtype) for x in given[: flat.moving]]
    return [jax.ShapeDtypeStruct((*batch, *shape), dtype) for shape, dtype in moving]


# ---- computing -------------------------------------------------------------------------------------------------------


def _on_host(*given: Any, flat: FlatFunction, product: Product, shapes: _Shapes, batch: tuple[int, ...]) -> list[Array]:
    results = _results(flat, product, shapes, batch, given)
    if 0 in batch:
        return [np.zeros(r.shape, r.dtype) for r in results]
    found = _batched(flat, product, shapes, batch, [np.asarray(array) for array in given])
    return [np.asarray(y, r.dtype).reshape(r.shape) for y, r in zip(found, results, strict=True)]


def _at_once(*given: Any, **params: Any) -> list[jax.Array]:
    """Outside jit. A callback would be compiled for every call, and kept for ever."""
    return [jnp.asarray(y) for y in _on_host(*given, **params)]


def _within_jit(*given: Any, **params: Any) -> Any:
    return jax.pure_callback(partial(_on_host, **params), _results(given=given, **params), *given)


def _batched(
    flat: FlatFunction, product: Product, shapes: _Shapes, batch: tuple[int, ...], given: list[Array]
) -> list[Array]:
    """A product for every index of the batch: what shares a point is asked in one request."""
    operands, *linear = _groups(flat, product, shapes, given)
    axes = range(len(batch))
    many_points = [any(x.shape[axis] > 1 for x in operands) for axis in axes]

    def at(point: tuple[int, ...]) -> dict[tuple[int, ...], list[Array]]:
        indices = list(itertools.product(*((point[k],) if many_points[k] else range(batch[k]) for k in axes)))
        vectors = [
            [
                _conjugated(kind, [_at(x, index) for x in group])
                for kind, group in zip(LINEAR_IN[product], linear, strict=True)
            ]
            for index in indices
        ]
        answers = flat.many(product, [_at(x, point) for x in operands], vectors)
        conjugated = (_conjugated(IS_LIKE[product], answer, result=True) for answer in answers)
        return dict(zip(indices, conjugated, strict=True))

    points = list(itertools.product(*(range(batch[k]) if many_points[k] else (0,) for k in axes)))
    found: dict[tuple[int, ...], list[Array]] = {}
    if len(points) == 1:
        found = at(points[0])
    else:
        with ThreadPoolExecutor(min(len(points), AT_A_TIME)) as pool:
            for answers in pool.map(at, points):
                found |= answers
    order = list(itertools.product(*map(range, batch)))
    return [np.stack([found[index][k] for index in order]) for k in range(len(found[order[0]]))]


def _at(array: Array, index: tuple[int, ...]) -> Array:
    found: Array = array[tuple(k if length > 1 else 0 for k, length in zip(index, array.shape, strict=False))]
    return found


def _conjugated(kind: str, arrays: Arrays, result: bool = False) -> list[Array]:
    """JAX pairs cotangents with tangents without conjugating, distgrad with it: cotangents differ by a conjugate, those
    of the value that go in, and those of the arguments that come out."""
    cotangents = (kind == "value") != result
    return [np.conj(a) if cotangents and np.iscomplexobj(a) else a for a in arrays]


def _abstract(*given: Any, flat: FlatFunction, product: Product, shapes: _Shapes, batch: tuple[int, ...]) -> Any:
    results = _results(flat, product, shapes, batch, given)
    return [jax.core.ShapedArray(result.shape, result.dtype) for result in results]


# ---- derivatives -----------------------------------------------------------------------------------------------------


def _jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    flat, product, shapes = params["flat"], params["product"], params["shapes"]
    value = _product.bind(*primals, **params)
    operands, *linear = _groups(flat, product, shapes, primals)
    moved, *moved_linear = _groups(flat, product, shapes, tangents)
    terms = []
    for k, group in enumerate(moved_linear):
        if not all(type(t) is ad.Zero for t in group):
            filled = [*linear[:k], list(map(ad.instantiate_zeros, group)), *linear[k + 1 :]]
            terms.append(_product.bind(*operands, *itertools.chain(*filled), **params))
    moved = moved[: flat.moving]
    if not all(type(t) is ad.Zero for t in moved):
        if product not in DERIVATIVE:
            raise flat.third()
        along = map(ad.instantiate_zeros, moved)
        params = {**params, "product": DERIVATIVE[product]}
        terms.append(_product.bind(*operands, *itertools.chain(*linear), *along, **params))
    if not terms:
        return value, [ad.Zero.from_primal_value(y) for y in value]
    return value, [sum(parts[1:], parts[0]) for parts in zip(*terms, strict=True)]


# By product and by the place of what is not known among what it is linear in: the product that is the transpose, and
# the places of its own vectors among (what is known, the cotangent).
_TRANSPOSE: dict[tuple[Product, int], tuple[Product, tuple[int, ...]]] = {
    ("vjp", 0): ("jvp", (0,)),
    ("jvp", 0): ("vjp", (0,)),
    ("hvp", 0): ("second", (0, 1)),
    ("hvp", 1): ("hvp", (0, 1)),
    ("second", 0): ("hvp", (1, 0)),
    ("second", 1): ("hvp", (1, 0)),
}


def _transpose(cotangents: Any, *given: Any, **params: Any) -> Any:
    flat, product, shapes, batch = params["flat"], params["product"], params["shapes"], params["batch"]
    operands, *linear = _groups(flat, product, shapes, given)
    (place,) = (k for k, group in enumerate(linear) if any(map(ad.is_undefined_primal, group)))
    known = [group for k, group in enumerate(linear) if k != place]
    cotangents = list(map(ad.instantiate_zeros, cotangents))
    transposed, order = _TRANSPOSE[product, place]
    vectors = [[*known, cotangents][k] for k in order]
    params = {**params, "product": transposed}
    found = _product.bind(*operands, *itertools.chain(*vectors), **params)
    wanted = [
        _summed(y, x.aval.shape, len(batch)) if ad.is_undefined_primal(x) else None
        for y, x in zip(found, linear[place], strict=True)
    ]
    groups = [wanted if k == place else [None] * len(group) for k, group in enumerate(linear)]
    return [*[None] * len(operands), *itertools.chain(*groups)]


def _summed(array: Any, shape: tuple[int, ...], axes: int) -> Any:
    """Over the axes of the batch along which the operand is one and the same."""
    same = tuple(k for k in range(axes) if shape[k] == 1 and array.shape[k] != 1)
    return jnp.sum(array, axis=same, keepdims=True) if same else array


def _batch(given: Any, dims: Any, **params: Any) -> Any:
    (size,) = {x.shape[dim] for x, dim in zip(given, dims, strict=True) if dim is not None}
    fronted = [
        jnp.expand_dims(x, 0) if dim is None else jnp.moveaxis(x, dim, 0) for x, dim in zip(given, dims, strict=True)
    ]
    found = _product.bind(*fronted, **{**params, "batch": (size, *params["batch"])})
    return found, [0] * len(found)


_product.def_impl(_at_once)
_product.def_abstract_eval(_abstract)
ad.primitive_jvps[_product] = _jvp
ad.primitive_transposes[_product] = _transpose
batching.primitive_batchers[_product] = _batch
mlir.register_lowering(_product, mlir.lower_fun(_within_jit, multiple_results=True))
