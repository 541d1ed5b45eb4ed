"""Served functions inside SciPy: `f.as_scipy(x0)`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from distgrad.autograd import tree
from distgrad.errors import SessionLost
from distgrad.wire.dtypes import Array

from .point import Linearization, plain

if TYPE_CHECKING:
    from .function import RemoteFunction

# Linearisations that are kept at a time: solvers go back to where they were when a step did not help.
KEPT = 2


class ScipyFunction:
    """A served function of one argument, a tree of real arrays, as SciPy's solvers want it: of one float64 vector.

        p = f.as_scipy(x0)
        result = scipy.optimize.minimize(p.fun, p.x0, jac=p.jac, hessp=p.hessp, method="trust-krylov")
        result = scipy.optimize.least_squares(p.residuals, p.x0, jac=p.jacobian, tr_solver="lsmr")
        source = p.unflatten(result.x)

    The value and its gradient at one point are asked in one request, and the linearisations used last are kept while
    products there are asked for; all else stays with the server. One that the server has lost is made anew.

    Attributes:
        x0: the first argument as a vector.
    """

    def __init__(self, function: RemoteFunction, x0: Any, others: dict[str, Any]) -> None:
        """
        Arguments:
            x0: the function's first argument, to begin with; says what its tree looks like.
            others: its other arguments, by name.
        """
        leaves, self._structure = tree.flatten(plain(x0))
        self._like = [np.asarray(leaf) for leaf in leaves]
        self.x0 = _vector(self._like)
        self._function = function
        self._others = others
        self._first = function.argument_names()[0]
        self._at: bytes = b""
        self._value_and_gradient: tuple[float, Array] | None = None
        # By their points, the one used last behind.
        self._linearizations: OrderedDict[bytes, Linearization] = OrderedDict()

    # ---- scalar functions

    def fun(self, x: Array) -> float:
        """The value: one real scalar."""
        return self._both(x)[0]

    def jac(self, x: Array) -> Array:
        """The gradient."""
        return self._both(x)[1].copy()  # the solver may change it

    def hessp(self, x: Array, p: Array) -> Array:
        """The product of the Hessian with a vector."""
        return self._product(x, lambda at_x: at_x.hvp(self.unflatten(p)))

    def _both(self, x: Array) -> tuple[float, Array]:
        at = _key(x)
        if self._value_and_gradient is None or at != self._at:
            value, gradient = self._function.value_and_grad(**self._arguments(x))
            self._at, self._value_and_gradient = at, (float(value), _vector(gradient))
        return self._value_and_gradient

    # ---- functions of many values

    def residuals(self, x: Array) -> Array:
        """The value as a vector."""
        return _vector(self._linearized(x).value)

    def jacobian(self, x: Array) -> Any:
        """The Jacobian as a scipy.sparse.linalg.LinearOperator: it is never made whole."""
        from scipy.sparse.linalg import LinearOperator

        here = np.array(x, np.float64)  # which the solver may move on
        values, structure = tree.flatten(self._linearized(here).value)
        shape = sum(np.size(y) for y in values), self.x0.size

        def matvec(v: Array) -> Array:
            return self._product(here, lambda at_x: at_x.jvp(self.unflatten(v)))

        def rmatvec(w: Array) -> Array:
            cotangent = tree.unflatten(structure, _cut(w, [np.asarray(y) for y in values]))
            return self._product(here, lambda at_x: at_x.vjp(cotangent))

        return LinearOperator(shape, matvec=matvec, rmatvec=rmatvec, dtype=np.float64)

    def _product(self, x: Array, ask: Callable[[Linearization], Any]) -> Array:
        """What is asked of the linearisation at a point: of a new one, when the server keeps it no longer."""
        try:
            return _vector(ask(self._linearized(x)))
        except SessionLost:
            del self._linearizations[_key(x)]
            return _vector(ask(self._linearized(x)))

    def _linearized(self, x: Array) -> Linearization:
        found = self._linearizations.pop(_key(x), None)
        if found is None:
            self._forget(KEPT - 1)
            found = self._function.linearize(**self._arguments(x))
        self._linearizations[_key(x)] = found
        return found

    def _forget(self, keep: int) -> None:
        while len(self._linearizations) > keep:
            with suppress(SessionLost):  # as was wanted
                self._linearizations.popitem(last=False)[1].close()

    # ---- vectors and trees

    def unflatten(self, x: Array) -> Any:
        """The tree that a vector stands for."""
        return tree.unflatten(self._structure, _cut(x, self._like))

    def _arguments(self, x: Array) -> dict[str, Any]:
        return {self._first: self.unflatten(x), **self._others}

    # ---- the end

    def close(self) -> None:
        """Lets the server forget the linearisations that are kept, which it would do by itself after a while."""
        self._forget(0)

    def __enter__(self) -> ScipyFunction:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ScipyFunction {self._function.name} of {self.x0.size} variables>"


def _key(x: Array) -> bytes:
    return np.asarray(x, np.float64).tobytes()


def _vector(value: Any) -> Array:
    leaves = [np.ravel(leaf).astype(np.float64, copy=False) for leaf in tree.flatten(value)[0]]
    return np.concatenate(leaves) if leaves else np.zeros(0)


def _cut(vector: Array, like: list[Array]) -> list[Array]:
    """A vector cut into arrays of these shapes and element types."""
    ends = np.cumsum([x.size for x in like])
    pieces = np.split(np.ravel(vector), ends[:-1]) if like else []
    return [np.reshape(piece, x.shape).astype(x.dtype) for piece, x in zip(pieces, like, strict=True)]
