"""What `distgrad call` may ask of a function, by the name of its option."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from distgrad.errors import ConfigError

from .function import RemoteFunction
from .point import Point

# What a cotangent, tangent or vector is called among the values given.
VECTOR = "v"


@dataclass(frozen=True)
class Call:
    """One of the products.

    Attributes:
        help: a sentence for users.
        ask: of a function at a point, with a vector or None; returns values by their names.
        vector: what VECTOR is; empty when it takes none.
    """

    help: str
    ask: Callable[[Point, Any, Any], dict[str, Any]]
    vector: str = ""


def _value_and_grad(at: Point, v: Any, wrt: Any) -> dict[str, Any]:
    value, gradient = at.value_and_grad(wrt=wrt)
    return {"value": value, "gradient": gradient}


CALLS: dict[str, Call] = {
    "value": Call("The value (the default).", lambda at, v, wrt: {"value": at.value()}),
    "grad": Call("The gradient.", lambda at, v, wrt: {"gradient": at.grad(wrt=wrt)}),
    "value-and-grad": Call("Both.", _value_and_grad),
    "vjp": Call("Cotangent times Jacobian.", lambda at, v, wrt: {"vjp": at.vjp(v, wrt=wrt)}, "the cotangent"),
    "jvp": Call("Jacobian times tangent.", lambda at, v, wrt: {"jvp": at.jvp(v, wrt=wrt)}, "the tangent"),
    "hvp": Call("Hessian times vector.", lambda at, v, wrt: {"hvp": at.hvp(v, wrt=wrt)}, "the vector"),
    "jacobian": Call("The Jacobian.", lambda at, v, wrt: {"jacobian": at.jacobian(wrt=wrt)}),
    "hessian": Call("The Hessian.", lambda at, v, wrt: {"hessian": at.hessian(wrt=wrt)}),
}


def call_function(
    function: RemoteFunction, product: str, values: dict[str, Any], wrt: Sequence[str] = ()
) -> dict[str, Any]:
    """Asks for a product.

    Arguments:
        product: a name in `CALLS`.
        values: the function's arguments and, as `VECTOR`, what the product takes besides.
        wrt: names of arguments; none: the first.

    Returns:
        what was asked for, by name.

    Raises:
        ConfigError: the vector is missing.
    """
    call = CALLS[product]
    arguments = dict(values)
    vector = None
    if call.vector:
        if VECTOR not in arguments:
            raise ConfigError(f"--{product} takes {call.vector} as {VECTOR}=VALUE or {VECTOR}=@FILE")
        vector = arguments.pop(VECTOR)
    chosen: Any = 0 if not wrt else wrt[0] if len(wrt) == 1 else tuple(wrt)
    if len(wrt) > 1 and isinstance(vector, dict):
        vector = tuple(vector[name] for name in wrt)
    return call.ask(function.at(**arguments), vector, chosen)
