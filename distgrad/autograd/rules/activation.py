"""Activation functions: one value in, one value out, for each element."""

from __future__ import annotations

from typing import Any

from distgrad.autograd.primitive import primitive


def _relu_vjp(xp: Any, g: Any, ans: Any, x: Any) -> Any:
    return xp.multiply(g, ans > 0)


relu = primitive(
    "relu",
    lambda xp, x: xp.maximum(x, 0),
    vjps=[_relu_vjp],
    jvp="same",
    save="output",
    doc="max(x, 0); its derivative at 0 is 0.",
)
