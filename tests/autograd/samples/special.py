"""Special functions."""

from __future__ import annotations

from typing import Any

import scipy.special as special

from tests.autograd.samples import Sample, unary


def _polygamma(n: int, x: Any) -> Any:
    return special.polygamma(n, x).astype(x.dtype)  # SciPy's is float64 always


SAMPLES = {
    "erf": unary(-3, 3, expected=special.erf, torch="erf") + unary(4.1, 5, expected=special.erf, torch="erf"),
    "erfc": unary(-3, 3, expected=special.erfc, torch="erfc") + unary(4.1, 9, expected=special.erfc, rtol=1e-13),
    "erfinv": unary(-0.95, 0.95, expected=special.erfinv, torch="erfinv"),
    "gammaln": [
        *unary(0.2, 20, expected=special.gammaln, torch="lgamma"),
        *unary(-0.9, -0.1, expected=special.gammaln, torch="lgamma"),
        *unary(-4.9, -4.1, expected=special.gammaln, torch="lgamma"),
    ],
    "digamma": [
        *unary(0.5, 20, expected=special.digamma, torch="digamma"),
        *unary(-0.9, -0.1, expected=special.digamma, torch="digamma"),
        *unary(1.46, 1.4632, expected=special.digamma),
    ],
    "polygamma": [
        *(
            Sample([n, (2, 3)], domain=[(0, 0), (1, 20)], expected=_polygamma, torch="special.polygamma")
            for n in range(4)
        ),
        Sample([1, (3,)], domain=[(0, 0), (-2.9, -2.1)], expected=_polygamma),
        Sample([2, (0, 3)], domain=[(0, 0), (0.5, 20)], expected=_polygamma),
    ],
    "i0": [
        *unary(-3, 3, expected=special.i0, torch="i0"),
        *unary(33, 40, expected=special.i0),
    ],
    "bessel_i": [
        Sample([n, (2, 3)], domain=[(0, 0), (-5, 5)], expected=special.iv) for n in (-1, 0, 1, 2)
    ],
}  # fmt: skip
