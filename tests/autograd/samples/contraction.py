"""Sums of products: matmul, einsum and their relatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.autograd.samples import Sample
from tests.autograd.samples.shape import complex_, strided


def _einsum(subscripts: str, *args: Any, **more: Any) -> Sample:
    """A sample of the primitive under einsum."""
    left, output = subscripts.split("->")
    defaults = {"torch": lambda t, *xs, inputs, output: t.einsum(subscripts, *xs), "note": subscripts, "analytic": True}
    return Sample(
        args,
        {"inputs": tuple(left.split(",")), "output": output},
        expected=lambda *xs, inputs, output: np.einsum(subscripts, *xs),
        foreign=False,
        **defaults | more,
    )


SAMPLES = {
    "matmul": [
        *(
            Sample([x, y], torch="matmul", analytic=True)
            for x, y in [
                ((2, 3), (3, 4)),
                ((3,), (3,)),
                ((2, 3), (3,)),
                ((3,), (3, 2)),
                ((5, 2, 3), (3, 4)),
                ((5, 2, 3), (5, 3, 4)),
                ((2, 3), (5, 3, 4)),
                ((2, 1, 2, 3), (3, 3, 2)),
                ((3,), (5, 3, 2)),
                ((5, 2, 3), (3,)),
            ]
        ),
        Sample([(0, 3), (3, 2)]),
        Sample([(2, 0), (0, 2)]),
        Sample([(0, 2, 3), (3, 2)]),
        Sample([complex_(2, 3), complex_(3, 2)], torch="matmul", note="complex"),
        Sample([complex_(2, 3), (3,)], note="complex and real"),
        Sample([strided(2, 2, 3), strided(3, 2)], note="strided"),
    ],
    "contract": [
        _einsum("ij,jk->ik", (2, 3), (3, 4)),
        _einsum("ij->ji", (2, 3)),
        _einsum("ii->i", (3, 3)),
        _einsum("iij->j", (3, 3, 2)),
        _einsum("ij->", (2, 3)),
        _einsum("bij,bjk->bik", (2, 2, 3), (2, 3, 2)),
        _einsum("bthd,bshd->bhts", (2, 3, 2, 2), (2, 2, 2, 2)),
        _einsum("i,j->ij", (2,), (3,)),
        _einsum("i,i->i", (3,), (3,)),
        _einsum("bi,bi->b", (2, 3), (2, 3)),
        _einsum("ij,jk,kl->il", (2, 3), (3, 2), (2, 3)),
        _einsum("iji,kj->ik", (2, 3, 2), (2, 3), analytic=False),
        _einsum("ij,jk->ik", (2, 1), (3, 2), torch=None, note="length one against three"),
        _einsum("ij,kj->ik", (0, 3), (2, 3), note="nothing"),
        _einsum("ij,kj->ik", (2, 0), (3, 0), note="sum of nothing"),
        _einsum("ij,jk->ik", complex_(2, 3), complex_(3, 2), analytic=False, note="complex"),
    ],
    "einsum": [
        Sample([subscripts, *shapes], torch=lambda t, *xs: t.einsum(*xs), foreign=False, note=subscripts)
        for subscripts, *shapes in [
            ("ij,jk", (2, 3), (3, 2)),
            ("ij,kj->ki", (2, 3), (2, 3)),
            ("...ij,jk->...ik", (2, 2, 3), (3, 2)),
            ("ii", (3, 3)),
            ("bi,ij,bj->b", (2, 3), (3, 2), (2, 2)),
        ]
    ],
    "multi_dot": [
        Sample(shapes, sequence=True, expected=np.linalg.multi_dot, torch=lambda t, *xs: t.linalg.multi_dot(xs))
        for shapes in ([(2, 3), (3, 4)], [(2, 3), (3, 4), (4, 1)], [(3,), (3, 2), (2, 4), (4,)])
    ],
    "dot": [
        Sample([(3,), (3,)], torch="dot"),
        Sample([(2, 3), (3, 2)], torch="mm"),
        Sample([(2, 3), (3,)], torch="mv"),
        Sample([(2, 2, 3), (2, 3, 4)], foreign=False),
        Sample([(), (2, 3)]),
    ],
    "inner": [
        Sample([(3,), (3,)], torch="inner", foreign=False),
        Sample([(2, 3), (4, 3)], torch="inner", foreign=False),
        Sample([(2, 2, 3), (3,)], torch="inner", foreign=False),
    ],
    "vdot": [Sample([(3,), (3,)], torch="vdot"), Sample([complex_(2, 2), complex_(2, 2)], note="complex")],
    "vecdot": [
        Sample([(2, 3), (2, 3)], torch="linalg.vecdot", foreign=False),
        Sample([(3,), (4, 2, 3)], foreign=False),
        Sample([complex_(3, 2), complex_(3, 2)], {"axis": 0}, foreign=False, note="complex"),
    ],
    "outer": [Sample([(2,), (3,)], torch="outer"), Sample([(2, 2), ()])],
    "tensordot": [
        Sample([(2, 3, 4), (3, 4, 2)], torch=lambda t, x, y: t.tensordot(x, y, 2), foreign=False),
        Sample([(2, 3), (4,), 0], foreign=False),
        Sample([(2, 3, 4), (4, 3, 5)], {"axes": ((2, 1), (0, -2))}, foreign=False),
        Sample([(2, 3), (2, 3)], {"axes": (0, 0)}, foreign=False),
    ],
    "kron": [Sample([(2, 3), (3, 2)], torch="kron"), Sample([(2,), (2, 3)], torch="kron"), Sample([(2, 1, 2), (2, 2)])],
    "cross": [
        Sample([(2, 3), (2, 3)], torch="linalg.cross", foreign=False),
        Sample([(3,), (2, 3)], foreign=False),
        Sample([(3, 2), (3, 2)], {"axis": 0}, foreign=False),
    ],
}
