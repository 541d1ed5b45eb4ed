"""Arithmetic, exponentials, trigonometry, comparison: one value in, one value out, for each element."""

from __future__ import annotations

from distgrad.autograd.primitive import elementwise, primitive

# ---- arithmetic -------------------------------------------------------------------------------------------------------

add = primitive(
    "add",
    lambda xp, x, y: xp.add(x, y),
    vjps=[lambda xp, g, ans, x, y: g, lambda xp, g, ans, x, y: g],
    jvp="same",
    save="nothing",
    doc="x + y.",
)
subtract = primitive(
    "subtract",
    lambda xp, x, y: xp.subtract(x, y),
    vjps=[lambda xp, g, ans, x, y: g, lambda xp, g, ans, x, y: -g],
    jvp="same",
    save="nothing",
    doc="x - y.",
)
multiply = elementwise(
    "multiply",
    lambda xp, x, y: xp.multiply(x, y),
    [lambda xp, ans, x, y: y, lambda xp, ans, x, y: x],
    doc="x · y.",
)
sin = elementwise("sin", lambda xp, x: xp.sin(x), [lambda xp, ans, x: xp.cos(x)], doc="sin(x).")
cos = elementwise("cos", lambda xp, x: xp.cos(x), [lambda xp, ans, x: -xp.sin(x)], doc="cos(x).")
negative = primitive(
    "negative", lambda xp, x: xp.negative(x), vjps=[lambda xp, g, ans, x: -g], jvp="linear", save="nothing", doc="-x."
)
