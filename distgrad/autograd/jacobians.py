"""Whole Jacobians and Hessians, products with them, and gradients of each example of a batch: made of grad, vjp, jvp
and vmap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Literal

import numpy as np

from distgrad.errors import CannotTravel, GradientError

from . import tape, tree
from .operands import ops
from .reverse import Function, bind, check_differentiable, check_function, name_of, vjp
from .tensor import Tensor
from .transforms import grad, jvp_forward
from .vmap import vmap

Mode = Literal["auto", "forward", "reverse"]


def jacobian(f: Function, argnums: int | Sequence[int] = 0, mode: Mode = "auto", vectorize: bool = True) -> Function:
    """The matrix of all partial derivatives of a real function.

    Arguments:
        f: returns an array or a tree of arrays.
        argnums: position of the argument, or a tuple of positions.
        mode: "forward" costs a pass for each element of the arguments, "reverse" one for each element of the value;
            "auto" takes the cheaper.
        vectorize: run all these passes as one computation, by `vmap`; otherwise, and where `f` calls shards, one after
            the other. (Where forward mode cannot follow such calls, see `jvp`, they are reverse ones.)

    Returns:
        a function of the same arguments. For a value of shape s and an argument of shape t it returns an array of
        shape s + t; for trees, a tree like the value with a tree like the argument at each leaf.

    >>> import distgrad as dg
    >>> dg.jacobian(lambda x: x * x)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    check_function(f, "jacobian")
    if mode not in ("auto", "forward", "reverse"):
        raise GradientError(f"mode={mode!r} is not one of 'auto', 'forward', 'reverse'")

    @wraps(f, updated=())
    def matrix(*args: Any, **kwargs: Any) -> Any:
        _, partial, primals = bind(f, argnums, args, kwargs)
        inputs, structure = tree.flatten(tuple(primals))
        check_differentiable(inputs, structure)
        _check_real(inputs, f)

        def whole(mode: Mode, vectorize: bool) -> Any:
            if mode == "forward":
                return _by_columns(partial, inputs, structure, vectorize, isinstance(argnums, int))
            value, pullback = vjp(partial, *primals)
            outputs, shape = tree.flatten(value)
            _check_real(outputs, f)
            if mode == "auto" and _elements(inputs) <= _elements(outputs):
                return _by_columns(partial, inputs, structure, vectorize, isinstance(argnums, int))
            return _by_rows(pullback, outputs, shape, vectorize, isinstance(argnums, int))

        with tape.outermost():
            # What calls other processes may have to do without a whole batch, and without forward mode.
            for way in dict.fromkeys([(mode, vectorize), (mode, False)]):
                try:
                    return whole(*way)
                except CannotTravel:
                    if tape.mode.get().boxes:
                        raise
            return whole("reverse", vectorize=False)

    return matrix


def _check_real(leaves: Sequence[Any], f: Function) -> None:
    if any("complex" in str(x.dtype) for x in leaves if hasattr(x, "dtype")) or any(type(x) is complex for x in leaves):
        raise GradientError(
            f"the Jacobian of {name_of(f)} is not defined here, as it takes or returns complex numbers; split them "
            "into real and imaginary parts, or use dg.jvp and dg.vjp"
        )


def _elements(leaves: Sequence[Any]) -> int:
    return sum(int(np.prod(np.shape(x) if not isinstance(x, Tensor) else x.shape)) for x in leaves)


def _basis(leaves: Sequence[Any]) -> list[Any]:
    """For each leaf an array of shape (all elements of all leaves, *shape): one element of one leaf is 1 at a time."""
    total = _elements(leaves)
    basis = []
    start = 0
    for x in leaves:
        shape = x.shape if isinstance(x, Tensor) else np.shape(x)
        dtype = x.dtype if hasattr(x, "dtype") else np.float64
        size = int(np.prod(shape))
        columns = np.zeros((total, size), dtype)
        columns[np.arange(start, start + size), np.arange(size)] = 1
        basis.append(columns.reshape(total, *shape))
        start += size
    return basis


def _mapped(function: Callable[..., Any], basis: Sequence[Any], vectorize: bool, linked: bool) -> list[Any]:
    """The leaves that `function` returns for each row of the basis, stacked along a new first axis; tensors when
    `linked`."""
    if vectorize:
        # Tensors in, tensors out: where somebody may differentiate what comes out.
        return list(vmap(function)(*(Tensor(rows) if linked else rows for rows in basis)))
    rows = [function(*row) for row in zip(*basis, strict=True)]
    return [_stacked(column) for column in zip(*rows, strict=True)]


def _stacked(rows: Sequence[Any]) -> Any:
    return ops().stack(rows) if any(isinstance(row, Tensor) for row in rows) else np.stack(rows)


def _by_columns(f: Function, inputs: list[Any], structure: tree.Structure, vectorize: bool, single: bool) -> Any:
    """One directional derivative for each element of the inputs."""
    shapes: list[tree.Structure] = []

    def column(*tangents: Any) -> list[Any]:
        arguments, directions = tree.unflatten(structure, inputs), tree.unflatten(structure, tangents)
        _, tangent = jvp_forward(f, arguments, directions, has_aux=False)
        leaves, shape = tree.flatten(tangent)
        shapes[:] = [shape]
        _check_real(leaves, f)
        return leaves

    columns = _mapped(column, _basis(inputs), vectorize, any(isinstance(x, Tensor) for x in inputs))
    rows = []
    for c in columns:
        c = _move_first_axis_to_the_end(c)
        blocks = _cut(c, inputs, lead=c.shape[:-1])
        arguments = tree.unflatten(structure, blocks)
        rows.append(arguments[0] if single else arguments)
    return tree.unflatten(shapes[0], rows)


def _by_rows(pullback: Function, outputs: list[Any], shape: tree.Structure, vectorize: bool, single: bool) -> Any:
    """One pullback for each element of the outputs."""
    structures: list[tree.Structure] = []

    def row(*cotangents: Any) -> list[Any]:
        leaves, structure = tree.flatten(pullback(tree.unflatten(shape, cotangents)))
        structures[:] = [structure]
        return leaves

    # Nobody outside differentiates this pass unless the outputs are tensors.
    seen = any(isinstance(y, Tensor) for y in outputs)
    with tape.entered(record=tape.mode.get().record and seen):
        gradients = _mapped(row, _basis(outputs), vectorize, seen)
    start = 0
    rows = []
    for y in outputs:
        size = _elements([y])
        blocks = [g[start : start + size].reshape((*y.shape, *g.shape[1:])) for g in gradients]
        arguments = tree.unflatten(structures[0], blocks)
        rows.append(arguments[0] if single else arguments)
        start += size
    return tree.unflatten(shape, rows)


def jacobian_of_pullback(pullback: Function, value: Any) -> Any:
    """The Jacobian of a real function of one argument, from what `vjp` has returned, without running it again."""
    outputs, shape = tree.flatten(value)
    _check_real(outputs, pullback)
    with tape.outermost():
        try:
            return _by_rows(pullback, outputs, shape, vectorize=True, single=True)
        except CannotTravel:  # it calls other processes, where a whole batch does not go
            return _by_rows(pullback, outputs, shape, vectorize=False, single=True)


def _move_first_axis_to_the_end(x: Any) -> Any:
    return ops().moveaxis(x, source=0, destination=-1) if isinstance(x, Tensor) else np.moveaxis(x, 0, -1)


def _cut(columns: Any, inputs: Sequence[Any], lead: tuple[int, ...]) -> list[Any]:
    """The last axis cut into one block for each input, in the input's shape."""
    blocks = []
    start = 0
    for x in inputs:
        shape = x.shape if isinstance(x, Tensor) else np.shape(x)
        size = int(np.prod(shape))
        blocks.append(columns[..., start : start + size].reshape((*lead, *shape)))
        start += size
    return blocks


def hessian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """The matrix of all second derivatives of a real scalar function: forward mode over reverse mode.

    Returns:
        a function of the same arguments. For an argument of shape t it returns an array of shape t + t; for trees, a
        tree like the argument with such a tree at each leaf.

    >>> import distgrad as dg
    >>> dg.hessian(lambda x: x[0] * x[0] * x[1])(np.array([3.0, 5.0]))
    array([[10.,  6.],
           [ 6.,  0.]])
    """
    check_function(f, "hessian")
    return wraps(f, updated=())(jacobian(grad(f, argnums), argnums, mode="forward"))


def hvp(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """Products of the Hessian of a real scalar function with a vector, at the cost of a few evaluations: forward over
    reverse (Pearlmutter, "Fast exact multiplication by the Hessian", 1994).

    Returns:
        a function of the same arguments and, last, the vector: a tree like the argument (a tuple of trees for a tuple
        of positions), as is the result.

    >>> import distgrad as dg
    >>> dg.hvp(lambda x: x[0] * x[0] * x[1])(np.array([3.0, 5.0]), np.array([1.0, 0.0]))
    array([10.,  6.])
    """
    check_function(f, "hvp")

    @wraps(f, updated=())
    def product(*args: Any, **kwargs: Any) -> Any:
        if len(args) < 2:
            raise GradientError(
                "a Hessian-vector product takes the arguments of the function and then the vector: hvp(f)(x, v)"
            )
        *point, vector = args
        positions, partial, primals = bind(f, argnums, tuple(point), kwargs)
        tangents = (vector,) if isinstance(argnums, int) else tuple(vector)
        gradient = grad(partial, tuple(range(len(positions))))
        with tape.outermost():
            found = _product(gradient, primals, tangents)
        return found[0] if isinstance(argnums, int) else found

    return product


def _product(gradient: Function, primals: Sequence[Any], tangents: tuple[Any, ...]) -> Any:
    """The derivative of a gradient along `tangents`. Where tangents do not go, as in other processes, the symmetry of
    the Hessian makes it the pullback of the gradient."""
    try:
        return jvp_forward(gradient, primals, tangents, has_aux=False)[1]
    except CannotTravel:
        if tape.mode.get().boxes:
            raise
        _, pullback = vjp(lambda *xs: gradient(*xs), *primals)
        return pullback(tangents)


def per_example_grad(f: Function, argnums: int | Sequence[int] = 0, in_axes: Any = None) -> Function:
    """The gradient of each example's own loss, in one computation.

    Arguments:
        f: loss of one example: f(parameters, example, ...).
        argnums: the arguments to differentiate by.
        in_axes: as for `vmap`. Default: the arguments of `argnums` are the same for all examples, the others lie
            along axis 0.

    Returns:
        a function of (parameters, batch, ...) that returns gradients with the batch as a new first axis.

    >>> import distgrad as dg
    >>> dg.per_example_grad(lambda w, x: w * x)(2.0, np.array([1.0, 10.0]))
    array([ 1., 10.])
    """
    check_function(f, "per_example_grad")

    @wraps(f, updated=())
    def gradients(*args: Any, **kwargs: Any) -> Any:
        positions, _, _ = bind(f, argnums, args, kwargs)
        axes = in_axes if in_axes is not None else tuple(None if n in positions else 0 for n in range(len(args)))
        return vmap(grad(f, argnums), in_axes=axes)(*args, **kwargs)

    return gradients
