"""Functions to be served: `distgrad serve workers/functions.py:rosenbrock workers/functions.py:banana ...`

Each is ordinary NumPy. What it takes and gives is declared, so that requests which do not fit are refused at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import distgrad as dg


@dg.served(takes={"x": "float64[n]"}, gives="float64", batchable=True)
def rosenbrock(x: Any) -> Any:
    """Rosenbrock's curved valley in n ≥ 2 dimensions; least, 0, where all elements are 1."""
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@dg.served(takes={"x": "float64[2]", "bend": "float64"}, gives="float64", batchable=True)
def banana(x: Any, bend: Any = 0.5) -> Any:
    """Logarithm, up to a constant, of a density shaped like a banana: a normal one, bent (Haario et al., 1999)."""
    return -0.5 * (x[0] ** 2 / 4 + (x[1] + bend * (x[0] ** 2 - 4)) ** 2)


class BreastCancer:
    """Logistic regression: is a tumour of the Wisconsin data malignant, given 30 measurements of its cells?"""

    def __init__(self) -> None:
        from sklearn.datasets import load_breast_cancer

        data = load_breast_cancer()
        scaled = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
        self._x = np.column_stack([scaled, np.ones(len(scaled))])
        self._sign = 2.0 * data.target - 1.0

    @dg.served(takes={"weights": "float64[31]", "penalty": "float64"}, gives="float64")
    def loss(self, weights: Any, penalty: Any = 1e-3) -> Any:
        """Mean logistic loss in nats, and `penalty` times the sum of squares of the weights (the last is the
        intercept, and free)."""
        margin = self._sign * (self._x @ weights)
        return np.mean(np.logaddexp(0.0, -margin)) + penalty * np.sum(weights[:-1] ** 2)

    @dg.served(takes={"weights": "float64[31]"}, gives="float64")
    def accuracy(self, weights: Any) -> Any:
        """The part of the tumours that are told right."""
        return np.mean((self._x @ weights > 0) == (self._sign > 0))
