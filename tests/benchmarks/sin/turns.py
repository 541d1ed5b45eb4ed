"""What the clients have in common. Needs NumPy alone, as it runs beside every peer."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np

# The product of a cotangent v with the Jacobian of sin at x, given both.
Vjp = Callable[[np.ndarray, np.ndarray], np.ndarray]


def answer(vjp: Vjp) -> None:
    """The life of a client: for every line "N COUNT" of its input it asks COUNT times for a vjp of N numbers, and
    prints the milliseconds of each. Raises AssertionError when one is wrong."""
    for line in sys.stdin:
        n, count = map(int, line.split())
        rng = np.random.default_rng(n)
        x, v = rng.normal(size=n), rng.normal(size=n)
        expected = np.cos(x) * v
        np.testing.assert_allclose(vjp(x, v), expected)
        times = []
        for _ in range(count):
            start = time.perf_counter()
            found = vjp(x, v)
            times.append(1e3 * (time.perf_counter() - start))
        assert np.shape(found) == (n,)
        print(json.dumps(times), flush=True)
