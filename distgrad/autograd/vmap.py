"""Vectorisation: a function of one example becomes a function of a batch.

A `Batched` value looks like one example; its array has the batch as its first axis. What an operation does to a whole
batch at once is said by a rule in `RULES`: elementwise operations align the axes, reductions and shape operations
shift them, and so on. An operation without a rule, or that its rule declines, is applied to each example in turn:
slower, never wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NoReturn

import numpy as np

from distgrad.errors import GradientError

from . import tape, tree
from .operands import ops
from .primitive import Primitive
from .reverse import refuse_escaped
from .rules.nested import axis_of
from .tensor import Boxed, Tensor

Axes = Any


class Batched(Boxed, boxed=True):
    """One value for each example of a batch, at one level of `vmap`. `data` has the batch first, `shape` is without
    it.
    """

    __slots__ = ()

    def __init__(self, data: Any, level: int) -> None:
        super().__init__(data)
        self.level = level

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape[1:])

    @property
    def ndim(self) -> int:
        return len(self.data.shape) - 1

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def requires_grad(self) -> bool:
        return isinstance(self.data, Tensor) and self.data.requires_grad

    @classmethod
    def apply(cls, op: Primitive, level: int, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        batched = [type(a) is cls and a.level == level for a in args]
        raw = [a.data if own else a for a, own in zip(args, batched, strict=True)]
        rule = RULES.get(op.name)
        value = NotImplemented if rule is None else rule(op, raw, batched, params)
        if value is NotImplemented:
            value = each_in_turn(op, raw, batched, params)
        return tuple(cls(v, level) for v in value) if type(value) is tuple else cls(value, level)

    def _not_one_value(self, *_: Any) -> NoReturn:
        raise GradientError(
            "inside dg.vmap a value stands for a whole batch, so it is no single number or array: branch with "
            "dg.ops.where instead of if, and look at values outside the function"
        )

    numpy = item = tolist = _not_one_value
    __bool__ = __float__ = __int__ = __index__ = __complex__ = _not_one_value

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a zero-dimensional tensor")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"Batched(shape={self.shape}, batch={self.data.shape[0]}, dtype={self.dtype})"


# ---- operations on a batch -------------------------------------------------------------------------------------------
# A rule gets the operands (those that are batched with the batch first) and says the value, the batch first, or
# NotImplemented.

Raw = Sequence[Any]
Flags = Sequence[bool]
Rule = Callable[[Primitive, list[Any], list[bool], dict[str, Any]], Any]


def each_in_turn(op: Primitive, raw: Raw, batched: Flags, params: dict[str, Any]) -> Any:
    """Applies `op` to one example after the other."""
    xp = ops()
    size = next(a.shape[0] for a, own in zip(raw, batched, strict=True) if own)
    if size == 0:
        # Nothing to apply it to; zeros tell the shape of the result.
        args = [xp.zeros(a.shape[1:], dtype=a.dtype) if own else a for a, own in zip(raw, batched, strict=True)]
        value = op(*args, **params)
        none = [xp.zeros((0, *v.shape), dtype=v.dtype) for v in (value if type(value) is tuple else (value,))]
        return tuple(none) if type(value) is tuple else none[0]
    values = [
        op(*(xp.getitem(a, b) if own else a for a, own in zip(raw, batched, strict=True)), **params)
        for b in range(size)
    ]
    if type(values[0]) is tuple:
        return tuple(xp.stack(column) for column in zip(*values, strict=True))
    return xp.stack(values)


def _rank(x: Any, own: bool) -> int:
    """Number of axes of an operand without the batch."""
    return len(np.shape(x) if not hasattr(x, "shape") else x.shape) - own


def _widened(x: Any, rank: int) -> Any:
    """A batched operand with axes of length one after the batch, so that it has `rank` axes besides."""
    missing = rank + 1 - len(x.shape)
    return ops().reshape(x, shape=(x.shape[0], *(1,) * missing, *x.shape[1:])) if missing > 0 else x


def _pointwise(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
    rank = max(map(_rank, raw, batched))
    return op(*(_widened(a, rank) if own else a for a, own in zip(raw, batched, strict=True)), **params)


def _first_alone(axes: int) -> Rule:
    """Operations on the last axes of the first operand, as many as their parameter `axes` says or else `axes`, whatever
    stands before them.
    """

    def rule(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
        if not batched[0] or any(batched[1:]) or _rank(raw[0], True) < params.get("axes", axes):
            return NotImplemented
        return op(*raw, **params)

    return rule


def _all_alike(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
    """Operations on the last two axes of all operands."""
    ranks = {len(a.shape) if own else 0 for a, own in zip(raw, batched, strict=True) if a is not None}
    return op(*raw, **params) if len(ranks) == 1 and min(ranks) > 2 else NotImplemented


def _shifted(axis: Any, rank: int) -> Any:
    """An axis, or several, of an example of `rank` axes as axes of the batch. Raises AxisError as NumPy does, lest the
    batch be taken for one of them.
    """
    if isinstance(axis, tuple | list):
        return tuple(_shifted(a, rank) for a in axis)
    return axis_of(axis, rank) + 1


def _reduction(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
    """Operations along `axis`, where None means along all."""
    (x,) = raw
    axis = params.get("axis")
    rank = len(x.shape) - 1
    if not rank:
        return NotImplemented
    if axis is None:
        axis = tuple(range(rank))
    return op(x, **{**params, "axis": _shifted(axis, rank)})


def _along(default: int | None) -> Rule:
    """Operations along one axis, which None flattens to; `default` when it is not given."""

    def rule(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
        axis = params.get("axis", default)
        if len(raw) != 1 or axis is None or len(raw[0].shape) == 1:
            return NotImplemented
        return op(raw[0], **{**params, "axis": _shifted(axis, _rank(raw[0], True))})

    return rule


def _axes(**defaults: int) -> Rule:
    """Operations of one operand that has parameters of these names for axes."""

    def rule(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
        rank = _rank(raw[0], True)
        shifted = {name: _shifted(params.get(name, axis), rank) for name, axis in defaults.items()}
        return op(raw[0], **{**params, **shifted})

    return rule


def _expand_dims(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
    axis = params["axis"]
    new = len(axis) if isinstance(axis, tuple | list) else 1
    return op(raw[0], axis=_shifted(axis, _rank(raw[0], True) + new))


def _squeeze(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
    axis = params.get("axis")
    if axis is None:
        axis = tuple(k for k, n in enumerate(raw[0].shape[1:]) if n == 1)
    return op(raw[0], axis=_shifted(axis, _rank(raw[0], True)))


def _reshape(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
    shape = params["shape"]
    if params.get("order", "C") != "C" or 0 in raw[0].shape:
        return NotImplemented
    return op(raw[0], shape=(raw[0].shape[0], *((shape,) if isinstance(shape, int) else shape)))


def _transpose(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
    rank = len(raw[0].shape) - 1
    axes = params.get("axes")
    inner = range(rank - 1, -1, -1) if axes is None else axes
    return op(raw[0], axes=(0, *_shifted(tuple(inner), rank)))


def _broadcast_to(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
    shape = params["shape"]
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    return op(_widened(raw[0], len(shape)), shape=(raw[0].shape[0], *shape))


def _joined(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
    size = next(a.shape[0] for a, own in zip(raw, batched, strict=True) if own)
    whole = [a if own else spread(a, size) for a, own in zip(raw, batched, strict=True)]
    rank = _rank(whole[0], True) + (op.name == "stack_arrays")
    return op(*whole, axis=_shifted(params["axis"], rank))


def _pad(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
    return op(raw[0], **{**params, "widths": ((0, 0), *params["widths"])})


def spread(x: Any, size: int) -> Any:
    """A value that is the same for all examples as a batch of them."""
    shape = np.shape(x) if not hasattr(x, "shape") else x.shape
    return ops().broadcast_to(x, shape=(size, *shape))


def _matmul(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
    xp = ops()
    x, y = raw
    x_rank, y_rank = map(_rank, raw, batched)
    if x_rank == 1 and batched[0] and not batched[1] and y_rank <= 2:
        return op(x, y)  # one product for the whole batch
    x = xp.expand_dims(x, axis=-2) if x_rank == 1 else x
    y = xp.expand_dims(y, axis=-1) if y_rank == 1 else y
    rank = max(x_rank, y_rank, 2)
    value = op(_widened(x, rank) if batched[0] else x, _widened(y, rank) if batched[1] else y)
    dropped = tuple(axis for axis, r in ((-2, x_rank), (-1, y_rank)) if r == 1)
    return xp.squeeze(value, axis=dropped) if dropped else value


def _contract(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
    """einsum, with one more label for the batch."""
    inputs, output = params["inputs"], params["output"]
    label = chr(max(map(ord, "".join((*inputs, output, "A")))) + 1)
    labels = tuple(label + old if own else old for old, own in zip(inputs, batched, strict=True))
    return op(*raw, inputs=labels, output=label + output)


def _embedding(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
    """One table for all examples takes the indices of all at once."""
    return op(*raw) if not batched[0] else NotImplemented


# ---- indexing --------------------------------------------------------------------------------------------------------
# An index is a template, e.g. (:, ARRAY, 2), and its arrays are operands; see rules/indexing.py.


def _entries(index: Any) -> tuple[Any, ...]:
    return index if type(index) is tuple else (index,)


def _together(entries: Sequence[Any], arrays: int) -> bool:
    """Whether the arrays of an index stand side by side, so that their axes come where the first of them stands."""
    if not arrays:
        return True
    places = [
        k for k, entry in enumerate(entries) if not (isinstance(entry, slice) or entry is None or entry is Ellipsis)
    ]
    return places[-1] - places[0] == len(places) - 1


def _index(written: int) -> Rule:
    """Reading or writing at an index that is the same for all examples. `written` operands come before the index
    arrays.
    """

    def rule(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
        entries = _entries(params["index"])
        arrays = raw[written:]
        if any(batched[written:]):
            return _rows_of_each(op, raw, batched, params) if written == 1 and "shape" not in params else NotImplemented
        if not _together(entries, len(arrays)):
            return NotImplemented
        size = next(a.shape[0] for a, own in zip(raw, batched, strict=True) if own)
        changed = {**params, "index": (slice(None), *entries)}
        if "shape" in params:
            changed["shape"] = (size, *params["shape"])
        operands = [a if own else spread(a, size) for a, own in zip(raw[:written], batched, strict=False)]
        if written == 2:
            place = np.broadcast_to(np.False_, operands[0].shape)[_index_alike(changed["index"], arrays)]
            operands[1] = _widened(operands[1], place.ndim - 1)
        return op(*operands, *arrays, **changed)

    return rule


def _index_alike(entries: Sequence[Any], arrays: Sequence[Any]) -> tuple[Any, ...]:
    """An index that NumPy takes and that gives as many axes: with zeros for its arrays, which may be batches at
    another level.
    """
    left = (np.zeros(a.shape, bool if a.dtype == bool else int) for a in arrays)
    basic = (int, np.integer, slice, type(None), type(Ellipsis))
    return tuple(entry if isinstance(entry, basic) else next(left) for entry in entries)


def _rows_of_each(op: Primitive, raw: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
    """x[i] with another i for each example, i the only array and in front."""
    x, *arrays = raw
    entries = _entries(params["index"])
    basic = (int, np.integer, slice, type(None), type(Ellipsis))
    if len(arrays) != 1 or len(entries) != 1 or isinstance(entries[0], basic) or arrays[0].dtype == bool:
        return NotImplemented
    (rows,) = arrays
    if not batched[0]:
        return op(x, rows, **params)
    numbers = np.arange(x.shape[0]).reshape(-1, *(1,) * (len(rows.shape) - 1))
    return op(x, numbers, rows, index=(entries[0], entries[0]))


POINTWISE = """
    abs add angle arccos arccosh arcsin arcsinh arctan arctan2 arctanh astype bessel_i bitwise_and bitwise_or
    bitwise_xor cbrt ceil clip conj copy copysign cos cosh deg2rad detach digamma divide elu equal erf erfc erfinv exp
    exp2 expm1 float_power floor floor_divide fmax fmin fmod gammaln gelu greater greater_equal hardtanh heaviside
    hypot i0 imag invert isclose isfinite isinf isnan leaky_relu less less_equal log log10 log1p log2 logaddexp
    logaddexp2 logical_and logical_not logical_or logical_xor logit maximum minimum mish multiply nan_to_num negative
    not_equal polygamma positive power rad2deg real reciprocal relu remainder rint round rsqrt selu sigmoid sign
    signbit silu sin sinc sinh softplus sqrt square subtract tan tanh trunc where xlogy
"""
REDUCTIONS = "all any count_nonzero logsumexp max mean min prod std sum var"
ALONG_ONE_AXIS = "argmax argmin cumprod cumsum flip roll vector_norm"
ALONG_LAST_AXIS = "argsort fft ifft irfft log_softmax rfft softmax"
ON_MATRICES = "cholesky det eigh_of_hermitian inv pinv qr_factors slogdet svd_factors tril triu"


RULES: dict[str, Rule] = {
    name: rule
    for names, rule in (
        (POINTWISE, _pointwise),
        (REDUCTIONS, _reduction),
        (ALONG_ONE_AXIS, _along(None)),
        (ALONG_LAST_AXIS, _along(-1)),
        (ON_MATRICES, _first_alone(2)),
        ("layer_norm linear rms_norm", _first_alone(1)),
        ("one_hot", _first_alone(0)),
        ("broadcast_to", _broadcast_to),
        ("contract", _contract),
        ("diagonal", _axes(axis1=0, axis2=1)),
        ("embedding", _embedding),
        ("expand_dims", _expand_dims),
        ("index_add index_set", _index(2)),
        ("index_get index_scatter", _index(1)),
        ("join_arrays stack_arrays", _joined),
        ("matmul", _matmul),
        ("moveaxis", _axes(source=0, destination=0)),
        ("pad_constant", _pad),
        ("reshape", _reshape),
        ("scaled_dot_product_attention solve", _all_alike),
        ("split_at", _axes(axis=0)),
        ("squeeze", _squeeze),
        ("swapaxes", _axes(axis1=0, axis2=0)),
        ("transpose", _transpose),
    )
    for name in names.split()
}


# ---- the transform ---------------------------------------------------------------------------------------------------


def vmap(f: Callable[..., Any], in_axes: Axes = 0, out_axes: Axes = 0) -> Callable[..., Any]:
    """`f` applied to each example of a batch, as one computation.

    Arguments:
        f: function of one example. It may not branch on values; use `dg.ops.where`.
        in_axes: for each argument the axis its examples lie along, None where the argument is the same for all; an
            int for all arguments alike. An entry may be a tree of axes that begins like its argument. Keyword
            arguments are the same for all.
        out_axes: where the batch goes in the results; likewise a tree of axes.

    Returns:
        a function of batches that returns batches. Arrays in, arrays out; tensors in, tensors out.

    >>> import distgrad as dg
    >>> dg.vmap(lambda x, y: x * y, in_axes=(0, None))(np.array([1.0, 2.0]), 3.0)
    array([3., 6.])
    """
    if not callable(f):
        raise GradientError(f"dg.vmap takes a function and returns one: dg.vmap(f)(x); it got {type(f).__name__}")

    @wraps(f, updated=())
    def of_batch(*args: Any, **kwargs: Any) -> Any:
        if isinstance(in_axes, tuple | list) and len(in_axes) != len(args):
            raise GradientError(
                f"in_axes has {len(in_axes)} entries, but the function was called with {len(args)} arguments"
            )
        leaves, structure = tree.flatten(args)
        axes = _spread_axes(tuple(in_axes) if isinstance(in_axes, list) else in_axes, args, "in_axes")
        size = _batch_size(leaves, axes, structure.paths())
        outside = tape.mode.get()
        linked = outside.level > 0 or any(isinstance(x, Tensor) for x in leaves)
        level = tape.next_level()
        with tape.entered(level=level, boxes=True):
            values = [_in(x, axis, level) for x, axis in zip(leaves, axes, strict=True)]
            result = f(*tree.unflatten(structure, values), **kwargs)
        results, shape = tree.flatten(result)
        places = _spread_axes(out_axes, result, "out_axes")
        outputs = [_out(y, axis, level, size, linked) for y, axis in zip(results, places, strict=True)]
        return tree.unflatten(shape, outputs)

    return of_batch


def _spread_axes(axes: Axes, whole: Any, what: str) -> list[int | None]:
    """One axis for each leaf of `whole`, from a tree of axes that begins like it."""
    if axes is None or isinstance(axes, int):
        return [axes] * len(tree.flatten(whole)[0])
    names, children = tree.children(axes)
    own_names, own_children = tree.children(whole)
    if type(axes) is not type(whole) or names != own_names:
        raise GradientError(
            f"{what} must begin like the tree it is for: it has {axes!r} where that is {type(whole).__name__}"
        )
    return [leaf for a, child in zip(children, own_children, strict=True) for leaf in _spread_axes(a, child, what)]


def _batch_size(leaves: Sequence[Any], axes: Sequence[int | None], paths: Sequence[str]) -> int:
    sizes: dict[int, str] = {}
    for x, axis, path in zip(leaves, axes, paths, strict=True):
        if axis is None:
            continue
        shape = np.shape(x) if not hasattr(x, "shape") else x.shape
        if not -len(shape) <= axis < len(shape):
            raise GradientError(
                f"args{path} has shape {shape}, so there is no batch along its axis {axis}; see in_axes"
            )
        sizes.setdefault(shape[axis], path)
    if not sizes:
        raise GradientError("dg.vmap needs at least one argument with a batch; in_axes is None for all of them")
    if len(sizes) > 1:
        found = ", ".join(f"args{path} has {size}" for size, path in sizes.items())
        raise GradientError(f"the arguments of dg.vmap disagree on the size of the batch: {found}")
    return next(iter(sizes))


def _in(x: Any, axis: int | None, level: int) -> Any:
    if axis is None:
        return x
    data = x if hasattr(x, "shape") else np.asarray(x)
    return Batched(data if axis == 0 else ops().moveaxis(data, source=axis, destination=0), level)


def _out(y: Any, axis: int | None, level: int, size: int, linked: bool) -> Any:
    xp = ops()
    if type(y) is Batched and y.level == level:
        if axis is None:
            raise GradientError("out_axes is None for a result that differs between the examples of the batch")
        data = y.data if axis == 0 else xp.moveaxis(y.data, source=0, destination=axis)
    else:
        data = y if axis is None else spread(y, size)
        data = data if axis in (None, 0) else xp.moveaxis(data, source=0, destination=axis)
    refuse_escaped(data)
    if not isinstance(data, Tensor):
        return Tensor(np.asarray(data)) if linked else np.asarray(data)
    return data if linked or type(data) is not Tensor else data.data
