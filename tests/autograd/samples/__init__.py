"""Sample inputs of every primitive, one file a family; `test_table.py` walks the table of primitives over them.

A file holds `SAMPLES: dict[str, list[Sample]]`, by name of the primitive. A primitive without samples fails the table
test. Keep arrays small: each sample is run some thirty times.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One call of a primitive, `op(*args, **params)`, and who else knows its value.

    Attributes:
        args: for each operand a shape (a tuple: drawn uniformly from its `domain`), an array, a number, or a function
            of a `numpy.random.Generator` (for operands that must be positive definite, sorted, without ties, ...).
        params: keyword parameters.
        domain: (low, high) of the drawn operands, or a list of one pair for each operand. Stay away from kinks.
        expected: the value by an independent implementation, `expected(*arrays, **params)`. None: NumPy's function of
            the primitive's name, and if NumPy has none, `torch`.
        torch: the same in PyTorch, the oracle of value and gradients: `oracle(torch, *tensors, **params)`, or a dotted
            name in `torch` for a function that takes the operands alone. None: PyTorch has no such function.
        analytic: the value is a complex-analytic function of every operand and its kernel accepts complex numbers, so
            the complex step must agree to 1e-10.
        order: highest order of derivative that is checked; 0 for a composite that has no gradient.
        sequence: the operation takes its operands as one sequence.
        foreign: the rule also runs on arrays of other namespaces (array_api_strict in the tests).
        rtol: relative tolerance of the value, in float64.
        note: what this sample is for, part of its name in a failure's report.
    """

    args: Sequence[Any]
    params: Mapping[str, Any] = field(default_factory=dict)
    domain: tuple[float, float] | Sequence[tuple[float, float]] = (-2.0, 2.0)
    expected: Callable[..., Any] | None = None
    torch: str | Callable[..., Any] | None = None
    analytic: bool = False
    order: int = 2
    sequence: bool = False
    foreign: bool = True
    rtol: float = 1e-12
    note: str = ""

    def draw(self, rng: np.random.Generator) -> list[Any]:
        """The operands: float64 where drawn."""
        domains = self.domain if isinstance(self.domain, list) else [self.domain] * len(self.args)
        return [self._operand(arg, domain, rng) for arg, domain in zip(self.args, domains, strict=True)]

    @staticmethod
    def _operand(arg: Any, domain: tuple[float, float], rng: np.random.Generator) -> Any:
        if isinstance(arg, tuple):
            return rng.uniform(*domain, size=arg)
        return arg(rng) if callable(arg) else arg

    def name(self) -> str:
        """What tells this sample from the others of its primitive, for the name of its test."""
        if self.note:
            return self.note.replace(" ", "-")
        operands = ",".join("x".join(map(str, np.shape(a) if not isinstance(a, tuple) else a)) or "0d"
                            for a in self.args if not callable(a))  # fmt: skip
        params = ",".join(f"{k}={v}" for k, v in self.params.items() if isinstance(v, int | float | str | tuple | None))
        return ",".join(filter(None, (operands, params)))


@cache
def all_samples() -> dict[str, list[Sample]]:
    """The samples of every family, by name of the primitive."""
    found: dict[str, list[Sample]] = {}
    for module in pkgutil.iter_modules(__path__):
        for name, samples in importlib.import_module(f"{__name__}.{module.name}").SAMPLES.items():
            found.setdefault(name, []).extend(samples)
    return found


# ---- functions of each element ---------------------------------------------------------------------------------------


def unary(low: float, high: float, **rest: Any) -> list[Sample]:
    """Samples of a function of one element, in all the shapes that have ever made trouble."""
    return [
        Sample([(2, 3)], domain=(low, high), **rest),
        Sample([()], domain=(low, high), **rest),
        Sample([(1,)], domain=(low, high), **rest),
        Sample([(0, 3)], domain=(low, high), **rest),
        Sample([lambda rng: rng.uniform(low, high, (4, 3)).T[::2]], domain=(low, high), note="strided", **rest),
    ]


def binary(low: float, high: float, second: tuple[float, float] | None = None, **rest: Any) -> list[Sample]:
    """Samples of a function of two elements, the second from another domain if need be: alike, broadcast, empty."""
    domain = [(low, high), second or (low, high)]
    return [
        Sample([(2, 3), (2, 3)], domain=domain, **rest),
        Sample([(2, 1, 3), (2, 1)], domain=domain, **rest),
        Sample([(), (2,)], domain=domain, **rest),
        Sample([(2,), ()], domain=domain, **rest),
        Sample([(0, 2), (1, 2)], domain=domain, **rest),
        Sample([lambda rng: rng.uniform(low, high, (3, 2)).T, (2, 3)], domain=domain, note="strided", **rest),
    ]
