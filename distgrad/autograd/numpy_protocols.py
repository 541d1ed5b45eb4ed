"""NumPy's own functions on tensors: `np.sin(t)`, `np.sum(t, axis=0)`, `np.linalg.norm(t)`. Importing attaches them.

NumPy hands a call to `__array_ufunc__` or `__array_function__` when a tensor is among its arguments (NEP 13, NEP 18).
Both look up the operation of the same name in `dg.ops`; there is one table, so what `dg.ops` has, NumPy's spelling has
too. What it lacks is refused with a message, never computed on bare arrays, which would lose the gradient.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import cache
from itertools import takewhile
from typing import Any, ClassVar, NoReturn

import numpy as np

from distgrad.errors import GradientError, InPlaceError

from . import ops
from .primitive import Primitive
from .tensor import Boxed, Tensor

Function = Callable[..., Any]


def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    """Three operands, or the indices of true elements of one, as numpy.where."""
    return ops.nonzero(condition) if x is None and y is None else ops.where(condition, x, y)


# ---- the table -------------------------------------------------------------------------------------------------------

# The parameters of functions written in C, which tell of them only from NumPy 2.4 on.
WITHOUT_SIGNATURE: dict[Function, tuple[str, ...]] = {
    np.concatenate: ("arrays", "axis", "out", "dtype", "casting"),
    np.dot: ("a", "b", "out"),
    np.inner: ("a", "b"),
    np.vdot: ("a", "b"),
    np.where: ("condition", "x", "y"),
}

# Answered without computing.
INFORMATION: dict[Function, Function] = {
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: a.ndim,
    np.size: lambda a, axis=None: a.size if axis is None else a.shape[axis],
    np.iscomplexobj: lambda a: np.issubdtype(a.dtype, np.complexfloating),
    np.isrealobj: lambda a: not np.issubdtype(a.dtype, np.complexfloating),
    np.result_type: lambda *arrays: np.result_type(*(a.dtype if isinstance(a, Tensor) else a for a in arrays)),
    np.array_repr: lambda a, *_: repr(a),
    np.array_str: lambda a, *_: str(a),
    np.array2string: lambda a, *_, **__: str(a),
}

# NumPy's functions whose answer is a plain Python bool.
PLAIN = (np.allclose, np.array_equal)

# Ufuncs under another name than ours.
UFUNC_NAMES = {"psi": "digamma"}

REDUCE = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "logical_and": "all",
    "logical_or": "any",
}
ACCUMULATE = {"add": "cumsum", "multiply": "cumprod"}


def _table() -> dict[Function, Any]:
    """Functions of numpy, numpy.linalg and numpy.fft that are no ufuncs -> our operations of the same names."""
    table: dict[Function, Any] = {}
    for name in ops.__all__:
        for home in (np, np.linalg, np.fft):
            function = getattr(home, name, None)
            if callable(function) and not isinstance(function, np.ufunc | type):
                table[function] = getattr(ops, name)
                break
    return table | {np.where: _where}


FUNCTIONS = _table()


@cache
def _ufunc_operation(ufunc: np.ufunc) -> Any:
    """Our operation for a ufunc of NumPy or SciPy, or None."""
    name = ufunc.__name__
    homes = (np, sys.modules.get("scipy.special"))
    if not any(getattr(home, name, None) is ufunc for home in homes if home is not None):
        return None
    return vars(ops).get(UFUNC_NAMES.get(name, name))


# ---- ufuncs ----------------------------------------------------------------------------------------------------------


def _array_ufunc(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **params: Any) -> Any:
    """NEP 13: a ufunc with a tensor among its operands."""
    name = f"np.{ufunc.__name__}" if method == "__call__" else f"np.{ufunc.__name__}.{method}"
    if out is not None and any(o is not None for o in out):
        _refuse_out(name)
    operation = _ufunc_operation(ufunc)
    if ufunc is np.divmod and method == "__call__":
        return divmod(inputs[0], inputs[1])
    if operation is None:
        _refuse(name)
    if method == "__call__":
        return operation(*inputs, **_known(name, operation, params))
    if method == "reduce" and ufunc.__name__ in REDUCE:
        reduction = getattr(ops, REDUCE[ufunc.__name__])
        return reduction(*inputs, **_known(name, reduction, {"axis": 0, **params}))
    if method == "accumulate" and ufunc.__name__ in ACCUMULATE:
        running = getattr(ops, ACCUMULATE[ufunc.__name__])
        return running(*inputs, **_known(name, running, {"axis": 0, **params}))
    if method == "outer":
        x, y = map(ops.asarray, inputs)
        return operation(ops.reshape(x, shape=(*x.shape, *(1,) * y.ndim)), y, **_known(name, operation, params))
    _refuse(name)


# ---- functions -------------------------------------------------------------------------------------------------------


def _array_function(self: Tensor, function: Function, types: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    """NEP 18: any other function of NumPy with a tensor among its arguments."""
    if function in INFORMATION:
        return INFORMATION[function](*args, **params)
    name = f"{function.__module__}.{function.__name__}".replace("numpy", "np", 1)
    operation = FUNCTIONS.get(function)
    if operation is None:
        _refuse(name)
    args, params = _by_numpys_names(function, operation, args, params)
    if params.pop("out", None) is not None:
        _refuse_out(name)
    result = operation(*args, **_known(name, operation, params))
    return bool(result) if function in PLAIN else result


def _by_numpys_names(
    function: Function, operation: Any, args: tuple[Any, ...], params: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Operands by position and parameters by name, where NumPy's order of parameters or name of an operand differs."""
    theirs = _parameter_names(function)
    if not theirs:
        return args, params
    ours = _operand_names(operation, theirs)
    renamed = dict(zip(theirs[: len(ours)], ours, strict=False))
    params = {renamed.get(key, key): value for key, value in params.items()}
    rest = dict(zip(theirs[len(ours) :], args[len(ours) :], strict=False))
    return args[: len(ours)], rest | params


@cache
def _parameter_names(function: Function) -> tuple[str, ...]:
    """The names of NumPy's parameters in order; none for a function of any number of arguments."""
    if function in WITHOUT_SIGNATURE:
        return WITHOUT_SIGNATURE[function]
    parameters = inspect.signature(function).parameters
    return () if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()) else tuple(parameters)


@cache
def _operand_names(operation: Any, theirs: tuple[str, ...]) -> tuple[str, ...]:
    """Our names of what comes by position: the operands; of a composed function all before NumPy's names begin."""
    if isinstance(operation, Primitive):
        return operation.operand_names
    first, *others = inspect.signature(operation).parameters
    return (first, *takewhile(lambda name: name not in theirs, others))


def _known(name: str, operation: Any, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters without those that say what happens anyway; one that our operation lacks is refused."""
    params = {key: value for key, value in params.items() if value is not np._NoValue and (key, value) not in _IDLE}
    if isinstance(operation, Primitive):
        unknown = params.keys() - operation.accepts - set(operation.operand_names)
        if unknown:
            raise TypeError(
                f"{name}({min(unknown)}=) is not supported on tensors; dg.ops.{operation.name} takes "
                f"({', '.join((*operation.operand_names, *operation.parameters))})"
            )
    return params


class _Idle:
    """Parameters with the values that change nothing; compared by identity, as values may be arrays."""

    _VALUES: ClassVar[dict[str, tuple[Any, ...]]] = {
        "where": (True,),
        "dtype": (None,),
        "casting": ("same_kind",),
        "order": ("K", None),
        "subok": (True, False),
        "initial": (None,),
        "keepdims": (None,),
        "overwrite_input": (True, False),
        "weights": (None,),
    }

    def __contains__(self, pair: tuple[str, Any]) -> bool:
        key, value = pair
        return any(value is idle for idle in self._VALUES.get(key, ()))


_IDLE = _Idle()


# ---- refusals --------------------------------------------------------------------------------------------------------


def _refuse(name: str) -> NoReturn:
    raise TypeError(
        f"{name} is not differentiable here: dg.ops has no function of that name. Write it with functions that dg.ops "
        "has, give it derivatives of its own with dg.custom_vjp, or leave the graph with .numpy()"
    )


def _refuse_out(name: str) -> NoReturn:
    raise InPlaceError(
        f"{name}(out=...) would write into an array, and a tensor is among its operands; leave out= away and use "
        "the result"
    )


def _array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> Any:
    """`np.asarray(t)`, for tensors without history."""
    if isinstance(self, Boxed):
        raise GradientError(
            f"a value inside a transform (a {type(self).__name__.lower()}) cannot become a NumPy array: the transform "
            "would lose sight of it. Use functions of dg.ops or NumPy on the value itself"
        )
    if self.requires_grad:
        raise GradientError(
            "a tensor that requires grad does not turn into a NumPy array by itself, as its gradient would be lost; "
            "ask for the array with .numpy(), or for a tensor outside the graph with .detach(). To join tensors, use "
            "dg.ops.stack"
        )
    return np.array(self.data, dtype=dtype, copy=copy)


for _name, _method in {
    "__array__": _array,
    "__array_ufunc__": _array_ufunc,
    "__array_function__": _array_function,
}.items():
    setattr(Tensor, _name, _method)
