"""Functions whose derivatives are right, and one whose are not."""

from __future__ import annotations

from typing import Any

import numpy as np

import distgrad as dg


@dg.served(takes={"x": "float64[n]"}, gives="float64", batchable=True)
def rosenbrock(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@dg.served(
    takes={"x": "float64[n]", "p": {"k": "float64", "m": "float64[n]"}}, gives={"a": "float64[n]", "b": "float64"}
)
def field(x: Any, p: Any) -> Any:
    return {"a": np.sin(x) * p["k"], "b": np.sum(x * x * p["m"])}


@dg.served(takes={"z": "complex128[n]"}, gives="complex128[n]")
def wave(z: Any) -> Any:
    return np.exp(z) * np.conj(z)


@dg.served(takes={"x": "float32[n]"}, gives="float32")
def single(x: Any) -> Any:
    return np.sum(np.sin(x) * x)


@dg.custom_vjp
def _cubes(x: Any) -> Any:
    return dg.ops.sum(x**3)


_cubes.defvjp(lambda x: (_cubes(x), x), lambda x, g: (g * 3.001 * x**2,))


@dg.served(takes={"x": "float64[n]"}, gives="float64")
def wrong(x: Any) -> Any:
    return _cubes(x)


def undeclared(x: Any) -> Any:
    return x * x


@dg.served(takes={"x": "float64[n]", "y": "float64[2]", "scale": "float64"}, gives=("float64[n]", "float64[2]"))
def coupled(x: Any, y: Any, scale: Any = 1.0) -> Any:
    return scale * x * np.sum(y * y), np.sin(y) * np.sum(x)


@dg.served(takes={"x": "float64[2]"})
def fails(x: Any) -> Any:
    if float(np.asarray(getattr(x, "data", x))[0]) < 0:
        raise ArithmeticError("below zero")
    return np.log(x)
