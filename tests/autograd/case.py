"""One sample of a primitive with its operands drawn: a function of its differentiable operands, and random directions
for it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

import distgrad as dg
from distgrad.autograd.tensor import Tensor
from tests.autograd.samples import Sample, all_samples

STEP = 1e-6


def cases(name: str) -> Iterator[Case]:
    """The cases of a primitive, one for each sample."""
    for k, sample in enumerate(all_samples()[name]):
        yield Case(name, sample, zlib.crc32(f"{name}{k}".encode()))


class Case:
    """A call of `dg.ops.<name>` on drawn operands.

    Attributes:
        operands: all of them, NumPy arrays in float64 or complex128 where they have gradients.
        moving: positions of the operands that are differentiated.
        xs: the operands at those positions.
    """

    def __init__(self, name: str, sample: Sample, seed: int, dtype: Any = None) -> None:
        self.name, self.sample, self.seed = name, sample, seed
        self.op = getattr(dg.ops, name)
        self.operands = sample.draw(np.random.default_rng(seed))
        if dtype is not None:
            self.operands = [_as(x, dtype) for x in self.operands]
        self.moving = [i for i, x in enumerate(self.operands) if isinstance(x, np.ndarray) and x.dtype.kind in "fc"]
        self.xs = [self.operands[i] for i in self.moving]
        self._rng = np.random.default_rng(seed + 1)

    def __repr__(self) -> str:
        return f"{self.name}[{self.sample.name()}] (seed {self.seed})"

    def single(self) -> Case:
        """The same case in float32 (complex64)."""
        return Case(self.name, self.sample, self.seed, np.float32)

    def strided(self) -> Case:
        """The same case with operands whose elements lie neither side by side nor in order."""
        case = Case(self.name, self.sample, self.seed)
        case.operands = [_scattered(x) if isinstance(x, np.ndarray) else x for x in case.operands]
        case.xs = [case.operands[i] for i in case.moving]
        return case

    @contextmanager
    def blamed(self) -> Iterator[Case]:
        """Names the case in whatever is raised inside."""
        try:
            yield self
        except BaseException as error:
            error.add_note(f"in the case {self!r}")
            raise

    def f(self, *xs: Any) -> tuple[Any, ...]:
        """All results, of any dtype, as functions of the moving operands."""
        operands = list(self.operands)
        for i, x in zip(self.moving, xs, strict=True):
            operands[i] = x
        return results(self.call(self.op, operands))

    def call(self, function: Callable[..., Any], operands: Sequence[Any]) -> Any:
        """A function with this case's parameters, given other operands."""
        return function(*([operands] if self.sample.sequence else operands), **self.sample.params)

    def smooth(self, *xs: Any) -> tuple[Any, ...]:
        """The results that have derivatives."""
        return tuple(y for y in self.f(*xs) if y.dtype.kind in "fc")

    def arrays(self, xs: Sequence[Any]) -> list[Any]:
        """The differentiable results as arrays."""
        return [y.numpy() for y in self.smooth(*xs)]

    def directions(self, like: Sequence[Any]) -> list[Any]:
        """Random arrays of the shapes and dtypes of others."""
        return [self._direction(x) for x in like]

    def _direction(self, like: Any) -> Any:
        def draw() -> Any:
            return self._rng.uniform(0.5, 1.5, like.shape) * self._rng.choice([-1.0, 1.0], like.shape)

        return (draw() + 1j * draw() if like.dtype.kind == "c" else draw()).astype(like.dtype)

    def numerical(self, along: Sequence[Any], f: Callable[..., Sequence[Any]] | None = None) -> list[Any]:
        """The directional derivative of `f` (default: the results) by central differences."""
        f = f or (lambda *xs: self.arrays(xs))
        ahead = f(*(x + STEP * u for x, u in zip(self.xs, along, strict=True)))
        behind = f(*(x - STEP * u for x, u in zip(self.xs, along, strict=True)))
        return [(a - b) / (2 * STEP) for a, b in zip(ahead, behind, strict=True)]


def results(value: Any) -> tuple[Any, ...]:
    """All arrays or tensors of what an operation returned; lstsq also returns a number."""
    return (
        tuple(y for y in value if not isinstance(y, int | np.integer)) if isinstance(value, tuple | list) else (value,)
    )


def inner(left: Sequence[Any], right: Sequence[Any]) -> float:
    """Σ Re(conj(a)·b), the inner product of the conjugate convention."""
    return math.fsum(float(np.real(np.vdot(a, b))) for a, b in zip(left, right, strict=True))


def size(arrays: Sequence[Any]) -> float:
    return max((float(np.max(np.abs(a), initial=0.0)) for a in arrays), default=0.0)


def plain(x: Any) -> Any:
    """The array in a tensor."""
    return x.numpy() if isinstance(x, Tensor) else x


def _scattered(x: Any) -> Any:
    """An equal array in Fortran's order, backwards along the first axis and with gaps along the last."""
    room = np.zeros([2 * n for n in x.shape], x.dtype, order="F")
    view = room[(..., *(slice(None, None, 2) for _ in x.shape))]
    view = view[::-1] if x.ndim else view
    view[...] = x
    return view


def _as(x: Any, dtype: Any) -> Any:
    if not (isinstance(x, np.ndarray) and x.dtype.kind in "fc"):
        return x
    return x.astype(dtype if x.dtype.kind == "f" else np.result_type(dtype, np.complex64))
