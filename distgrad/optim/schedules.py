"""Learning-rate schedules: pure functions from the number of steps made to a factor of the learning rate.

    warm_cosine = Product((LinearWarmup(steps=100), Cosine(total=10_000, final=0.1)))
    adam = optim.Adam(3e-4).bind(model, schedule=warm_cosine)

A schedule is a frozen dataclass, so that it can be compared, printed, and written down as a plain dict.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from distgrad.errors import ConfigError

# Every schedule by name.
KINDS: dict[str, type[Schedule]] = {}


class Schedule(ABC):
    """Called with the number of steps made before this one, from 0."""

    def __init_subclass__(cls) -> None:
        KINDS[cls.__name__] = cls

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            number = isinstance(value, Real) and math.isfinite(value)
            if field.type == "float" and not number:
                raise ConfigError(f"{type(self).__name__}({field.name}={value!r}) must be a finite number")
            if field.type == "int" and not (number and value == int(value) >= 1):
                raise ConfigError(f"{type(self).__name__}({field.name}={value!r}) must be a whole number, at least 1")

    @abstractmethod
    def __call__(self, step: int) -> float:
        """The factor of the learning rate."""

    def to_settings(self) -> dict[str, Any]:
        """The schedule as a plain dict, its class name under "kind"; see `from_settings`."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {"kind": type(self).__name__, **{name: _plain(value) for name, value in fields.items()}}


def from_settings(settings: Mapping[str, Any]) -> Schedule:
    """The schedule that `to_settings` wrote down; unknown names raise ConfigError."""
    fields = dict(settings)
    kind = fields.pop("kind", None)
    if kind not in KINDS:
        raise ConfigError(f"there is no schedule {kind!r}; there are {', '.join(sorted(KINDS))}")
    known = [field.name for field in dataclasses.fields(KINDS[kind])]  # type: ignore[arg-type]
    unknown = [name for name in fields if name not in known]
    if unknown:
        raise ConfigError(f"the schedule {kind} has no setting {unknown[0]!r}; it has {', '.join(known)}")
    return KINDS[kind](**{name: _revived(value) for name, value in fields.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, Schedule):
        return value.to_settings()
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _revived(value: Any) -> Any:
    if isinstance(value, Mapping):
        return from_settings(value)
    return tuple(_revived(v) for v in value) if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class Constant(Schedule):
    """Always the same factor."""

    factor: float = 1.0

    def __call__(self, step: int) -> float:
        return self.factor


@dataclass(frozen=True)
class Step(Schedule):
    """1, times `factor` once more every `every` steps."""

    every: int
    factor: float = 0.1

    def __call__(self, step: int) -> float:
        return float(self.factor ** (step // self.every))


@dataclass(frozen=True)
class Cosine(Schedule):
    """From 1 to `final` along half a cosine over `total` steps, then `final` (Loshchilov & Hutter 2017)."""

    total: int
    final: float = 0.0

    def __call__(self, step: int) -> float:
        return _cosine(1.0, self.final, min(step / self.total, 1.0))


@dataclass(frozen=True)
class LinearWarmup(Schedule):
    """From `start` to 1 in a straight line over `steps` steps, then 1."""

    steps: int
    start: float = 0.0

    def __call__(self, step: int) -> float:
        return self.start + (1.0 - self.start) * min(step / self.steps, 1.0)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from 1/`rise` to 1 over the first `peak` share of `total` steps and down to 1/(`rise` · `fall`), along cosines
    (Smith & Topin 2018).
    """

    total: int
    peak: float = 0.3
    rise: float = 25.0
    fall: float = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.peak < 1:
            raise ConfigError(f"OneCycle(peak={self.peak}) is a share of the steps, between 0 and 1")
        if min(self.rise, self.fall) <= 0:
            raise ConfigError(f"OneCycle(rise={self.rise}, fall={self.fall}) must be positive")

    def __call__(self, step: int) -> float:
        # The last step, total − 1, is the lowest point.
        top, last = self.peak * self.total - 1, self.total - 1
        if step < top:
            return _cosine(1 / self.rise, 1.0, step / top)
        return _cosine(1.0, 1 / (self.rise * self.fall), min((step - top) / max(last - top, 1e-12), 1.0))


@dataclass(frozen=True)
class Product(Schedule):
    """The product of several schedules."""

    schedules: tuple[Schedule, ...]

    def __call__(self, step: int) -> float:
        return math.prod(schedule(step) for schedule in self.schedules)


@dataclass(frozen=True)
class Sequence(Schedule):
    """One schedule after another: `schedules[i]` until step `boundaries[i]`, each counting its steps from its own
    start.
    """

    schedules: tuple[Schedule, ...]
    boundaries: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.schedules) != len(self.boundaries) + 1 or list(self.boundaries) != sorted(self.boundaries):
            raise ConfigError("Sequence needs a rising boundary between each two schedules")

    def __call__(self, step: int) -> float:
        past = [boundary for boundary in self.boundaries if boundary <= step]
        return self.schedules[len(past)](step - (past[-1] if past else 0))


def _cosine(start: float, end: float, share: float) -> float:
    """From `start` (share 0) to `end` (share 1) along half a cosine."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))
