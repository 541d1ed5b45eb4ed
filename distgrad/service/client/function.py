"""A served function, as its clients see it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from distgrad.errors import ConfigError, GradientError

from .in_tape import call_on_tape, holds_tensors
from .point import Linearization, Point, Signature, Wrt
from .question import Question, asked

if TYPE_CHECKING:
    from .connect import Client


class RemoteFunction:
    """A function of a server. Calling it gives its value; with tensors of `distgrad`, a tensor that is recorded.

        f = dg.client("host:7500")["rosenbrock"]
        f(x), f.grad(x), f.vjp(x, w), f.jvp(x, v), f.hvp(x, v), f.hessian(x)

    Methods take the function's arguments, by position or name, and after them the cotangents, tangents or vectors. What
    they return, and what `wrt` and `timeout` mean, is said at `Point`; an argument of the function with one of these
    names must be given by position. Every method m has a twin m_async for coroutines.
    """

    def __init__(self, client: Client, name: str) -> None:
        if not isinstance(name, str):
            raise ConfigError(f"functions are found by their names, not by {name!r}")
        self.asker = client
        self.name = name
        self._client = client
        self.signature = Signature(name, self.argument_names, lambda: client.knows(name))
        self._described: Any = None
        self._names: list[str] = []

    def at(self, *args: Any, **kwargs: Any) -> Point:
        """The function at these arguments. Asks nothing."""
        arguments = self.by_name(args, kwargs) if kwargs else args
        return Point(self._client, self.name, self.signature, arguments, None)

    # ---- values and first derivatives

    def _call(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> Question[Any]:
        """The function's value."""
        return self.at(*args, **kwargs)._value(timeout=timeout)

    def _value_and_grad(
        self, *args: Any, wrt: Wrt = 0, timeout: float | None = None, **kwargs: Any
    ) -> Question[tuple[Any, Any]]:
        """The value, one real scalar, and its gradient."""
        return self.at(*args, **kwargs)._value_and_grad(wrt=wrt, timeout=timeout)

    def _grad(self, *args: Any, wrt: Wrt = 0, timeout: float | None = None, **kwargs: Any) -> Question[Any]:
        """The gradient of a function that returns one real scalar."""
        return self.at(*args, **kwargs)._grad(wrt=wrt, timeout=timeout)

    def _vjp(self, *args: Any, wrt: Wrt = 0, timeout: float | None = None, **kwargs: Any) -> Question[Any]:
        """The product of a cotangent, given last, with the Jacobian."""
        point, cotangent = self._split(args, kwargs, "vjp", "a cotangent")
        return point._vjp(cotangent, wrt=wrt, timeout=timeout)

    def _vjps(self, *args: Any, wrt: Wrt = 0, timeout: float | None = None, **kwargs: Any) -> Question[list[Any]]:
        """The products of several cotangents, a list given last, in one request."""
        point, cotangents = self._split(args, kwargs, "vjps", "a list of cotangents")
        return point._vjps(cotangents, wrt=wrt, timeout=timeout)

    def _jvp(self, *args: Any, wrt: Wrt = 0, timeout: float | None = None, **kwargs: Any) -> Question[Any]:
        """The product of the Jacobian with a tangent, given last."""
        point, tangent = self._split(args, kwargs, "jvp", "a tangent")
        return point._jvp(tangent, wrt=wrt, timeout=timeout)

    def _jvps(self, *args: Any, wrt: Wrt = 0, timeout: float | None = None, **kwargs: Any) -> Question[list[Any]]:
        """The products with several tangents, a list given last, in one request."""
        point, tangents = self._split(args, kwargs, "jvps", "a list of tangents")
        return point._jvps(tangents, wrt=wrt, timeout=timeout)

    # ---- second derivatives

    def _hvp(
        self, *args: Any, cotangent: Any = None, wrt: Wrt = 0, timeout: float | None = None, **kwargs: Any
    ) -> Question[Any]:
        """The product of the Hessian with a vector, given last. A function that does not return one real scalar needs a
        cotangent: the Hessian is that of their inner product."""
        point, vector = self._split(args, kwargs, "hvp", "a vector")
        return point._hvp(vector, cotangent=cotangent, wrt=wrt, timeout=timeout)

    def _hvps(
        self,
        *args: Any,
        cotangents: Sequence[Any] = (),
        wrt: Wrt = 0,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Question[list[Any]]:
        """The products with several vectors, a list given last, in one request."""
        point, vectors = self._split(args, kwargs, "hvps", "a list of vectors")
        return point._hvps(vectors, cotangents=cotangents, wrt=wrt, timeout=timeout)

    # ---- whole matrices

    def _jacobian(self, *args: Any, wrt: Wrt = 0, timeout: float | None = None, **kwargs: Any) -> Question[Any]:
        """All partial derivatives."""
        return self.at(*args, **kwargs)._jacobian(wrt=wrt, timeout=timeout)

    def _hessian(self, *args: Any, wrt: Wrt = 0, timeout: float | None = None, **kwargs: Any) -> Question[Any]:
        """All second derivatives of a function that returns one real scalar."""
        return self.at(*args, **kwargs)._hessian(wrt=wrt, timeout=timeout)

    def _linearize(
        self, *args: Any, wrt: Wrt = 0, timeout: float | None = None, **kwargs: Any
    ) -> Question[Linearization]:
        """Runs the function once and keeps its linearisation on the server, for any number of derivatives there."""
        return self.at(*args, **kwargs)._linearize(wrt=wrt, timeout=timeout)

    _plain_call, call_async = asked(_call)
    value_and_grad, value_and_grad_async = asked(_value_and_grad)
    grad, grad_async = asked(_grad)
    vjp, vjp_async = asked(_vjp)
    vjps, vjps_async = asked(_vjps)
    jvp, jvp_async = asked(_jvp)
    jvps, jvps_async = asked(_jvps)
    hvp, hvp_async = asked(_hvp)
    hvps, hvps_async = asked(_hvps)
    jacobian, jacobian_async = asked(_jacobian)
    hessian, hessian_async = asked(_hessian)
    linearize, linearize_async = asked(_linearize)

    def __call__(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        if holds_tensors((args, kwargs)):
            return call_on_tape(self, args, kwargs, timeout)
        return self._plain_call(*args, timeout=timeout, **kwargs)

    # ---- inside other frameworks

    def as_scipy(self, x0: Any, **others: Any) -> Any:
        """The function of one argument, flattened, as SciPy's solvers take it. See `in_scipy.ScipyFunction`."""
        from .in_scipy import ScipyFunction

        return ScipyFunction(self, x0, others)

    def as_jax(self) -> Callable[..., Any]:
        """The function for JAX arrays: under jit, vmap, grad, jacfwd and jacrev, to second order. See `in_jax`."""
        _require("jax", "as_jax")
        from .in_jax import as_jax

        return as_jax(self)

    def as_torch(self) -> Callable[..., Any]:
        """The function for torch tensors, differentiable twice. See `in_torch`."""
        _require("torch", "as_torch")
        from .in_torch import as_torch

        return as_torch(self)

    # ---- what is known of it

    def describe(self, timeout: float | None = None) -> Any:
        """All the server says of the function: a pb.DescribeFunctionResponse. See `Client.describe`."""
        return self._client.describe(self.name, timeout)

    def argument_names(self, timeout: float | None = None) -> list[str]:
        """In the order of the function's own parameters."""
        described = self.describe(timeout)
        if described is not self._described:
            self._described, self._names = described, [argument.name for argument in described.arguments]
        return self._names

    def by_name(self, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments as a dict. Raises TypeError when there is one too many, or twice."""
        return self.signature.by_name(args, kwargs) if args else kwargs

    def _split(self, args: tuple[Any, ...], kwargs: dict[str, Any], method: str, last: str) -> tuple[Point, Any]:
        if not args:
            raise GradientError(f"{self.name}.{method} takes the arguments of the function and then {last}")
        return self.at(*args[:-1], **kwargs), args[-1]

    def __repr__(self) -> str:
        return f"<RemoteFunction {self.name} at {self._client.address}>"


def _require(package: str, method: str) -> None:
    """Raises ConfigError when a package is not installed."""
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"{method}() needs {package}, which is not installed: pip install {package}")
