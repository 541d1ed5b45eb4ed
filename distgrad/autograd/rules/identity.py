"""Operations that leave the value as it is."""

from __future__ import annotations

from ..primitive import primitive

detach = primitive(
    "detach",
    lambda xp, x: x,
    vjps=None,
    doc="x as a constant: no gradient goes through it and no tangent comes out of it.",
)
