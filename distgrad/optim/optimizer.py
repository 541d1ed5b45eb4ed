"""What an optimizer is: settings, and a pure rule from (parameters, gradients, state) to new parameters and new state.

Arrays are never written to by `update`: the owner of distributed parameters prepares a step, and commits it by
swapping references or drops it. A local program binds the same rule to a module and lets it write in place
(`bound.py`); both run one kernel, so both get the same bits.

State is a flat dict of arrays named "PARAMETER/SLOT", such as "head.weight/mean", which a checkpoint can hold as it is.
A rule with bias corrections keeps "PARAMETER/steps" too, the steps that this parameter has made: one that had no
gradient for a while, or that came later than others, is not corrected by the steps of the others.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from distgrad.autograd.rows import Rows
from distgrad.errors import ConfigError

if TYPE_CHECKING:
    from .bound import BoundOptimizer, Trainable

Arrays = Mapping[str, Any]
Slots = tuple[Any, ...]

# Elements a kernel handles at a time: few enough for its arrays to stay in a core's cache, enough that calls cost
# little.
BLOCK = 32_768

# Every optimizer by the name that travels on the wire.
KINDS: dict[str, type[Optimizer]] = {}


@dataclasses.dataclass(frozen=True)
class Optimizer(ABC):
    """Settings of one algorithm, and its rule.

    Attributes:
        lr: learning rate of a step that is not given another one by a schedule.
    """

    lr: float

    # Whether elements do not see one another. Otherwise the kernel is given whole parameters.
    elementwise: ClassVar[bool] = True
    # Whether the kernel asks for the number of the step.
    counts_steps: ClassVar[bool] = False
    # Settings that say what a running mean keeps of itself.
    shares: ClassVar[frozenset[str]] = frozenset({"beta1", "beta2", "decay"})

    def __init_subclass__(cls) -> None:
        KINDS[cls.__name__] = cls

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, Real | np.bool_):
                raise ConfigError(f"{type(self).__name__}: {field.name}={value!r}, expected {field.type}")
            limit = 1.0 if field.name in self.shares else math.inf
            if not 0 <= float(value) < limit:
                expected = "0 or more, and below 1" if field.name in self.shares else "finite and not negative"
                raise ConfigError(f"{type(self).__name__}: {field.name}={value} must be {expected}")

    # ---- what an algorithm says of itself ----------------------------------------------------------------------------

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the arrays kept for each parameter, each of its shape."""
        return ()

    def initial(self, slot: str) -> float:
        """What a slot is filled with at first."""
        return 0.0

    @abstractmethod
    def kernel(self, p: Any, g: Any, slots: Slots, step: int, lr: float, scratch: Any) -> None:
        """Updates the parameter `p` and its `slots` in place.

        All arrays have one shape; `g`, the gradient, is read only and `scratch` free to use. A kernel that is
        `elementwise` is given a part of a parameter at a time. Complex numbers come as pairs of real ones. `step` is
        the number of this step among those of the parameter, from 1, where the rule `counts_steps`, else 0.
        """

    # ---- the rule ----------------------------------------------------------------------------------------------------

    def init(self, parameters: Arrays) -> dict[str, Any]:
        """The state before the first step."""
        state = {}
        for name, p in parameters.items():
            for slot in self.slots:
                state[f"{name}/{slot}"] = array = np.empty_like(p, dtype=_compute_dtype(p.dtype))
                _real_parts(array)[...] = self.initial(slot)
            if self.counts_steps:
                state[f"{name}/steps"] = np.zeros((), np.int64)
        return state

    def update(
        self, parameters: Arrays, gradients: Arrays, state: Arrays, learning_rate: float | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """New parameters and new state; those of a parameter without a gradient are the old ones.

        Arguments:
            parameters: arrays by name.
            gradients: arrays or `Rows` by name, of the parameters' shapes. Absent or None: that parameter and its
                state stay untouched.
            state: what `init` or the last `update` returned.
            learning_rate: default: `lr`.

        Of a row-sparse gradient only the rows it names are updated, in the parameter and in its state: momentum and
        decay of the others rest. Algorithms that are not `elementwise` take it as the dense gradient it stands for.
        """
        lr = self.lr if learning_rate is None else learning_rate
        new_parameters, new_state = dict(parameters), dict(state)
        for name, p in parameters.items():
            g = gradients.get(name)
            if g is None:
                continue
            keys = [f"{name}/{slot}" for slot in self.slots]
            old = [p, *(state[key] for key in keys)]
            fresh = [np.empty_like(a) for a in old]
            step = self.next_step(name, state)
            self.apply(old, g, step, lr, fresh)
            if step:
                new_state[f"{name}/steps"] = np.array(step, np.int64)
            new_parameters[name] = fresh[0]
            new_state.update(zip(keys, fresh[1:], strict=True))
        return new_parameters, new_state

    def next_step(self, name: str, state: Arrays) -> int:
        """The number of a parameter's next step, as the kernel wants it."""
        return int(state[f"{name}/steps"]) + 1 if self.counts_steps else 0

    def apply(self, old: Sequence[Any], g: Any, step: int, lr: float, new: Sequence[Any] | None = None) -> None:
        """Updates a parameter and its slots (`old`), in place, or into the arrays `new`."""
        check_gradient(old[0], g)
        if isinstance(g, Rows):
            if self.elementwise:
                self._apply_rows(old, g, step, lr, old if new is None else new)
                return
            g = g.dense()
        arrays = [g, *old, *(new or ())]
        for g_part, *parts in blocks(arrays) if self.elementwise else [arrays]:
            for source, target in zip(parts, parts[len(old) :], strict=False):
                np.copyto(target, source)
            self._apply_block(parts[-len(old) :], g_part, step, lr)

    def _apply_block(self, arrays: Sequence[Any], g: Any, step: int, lr: float) -> None:
        p, *slots = arrays
        dtype = _compute_dtype(p.dtype)
        wide = p if p.dtype == dtype else p.astype(dtype)
        g = g if g.dtype == dtype else g.astype(dtype)
        parts, g_parts, *slots = map(_real_parts, (wide, g, *slots))
        self.kernel(parts, g_parts, tuple(slots), step, lr, np.empty_like(parts))
        if wide is not p:
            np.copyto(p, wide, casting="same_kind")

    def _apply_rows(self, old: Sequence[Any], g: Rows, step: int, lr: float, new: Sequence[Any]) -> None:
        rows = [a[g.indices] for a in old]
        self._apply_block(rows, g.values, step, lr)
        for source, target, row in zip(old, new, rows, strict=True):
            if source is not target:
                np.copyto(target, source)
            target[g.indices] = row

    # ---- elsewhere ---------------------------------------------------------------------------------------------------

    def bind(self, parameters: Trainable, schedule: Callable[[int], float] | None = None) -> BoundOptimizer:
        """This rule with a module or named parameters of this process, to be stepped in place."""
        from .bound import BoundOptimizer

        return BoundOptimizer(self, parameters, schedule)

    @property
    def kind(self) -> str:
        """The name that `from_settings` finds this rule's class by."""
        return type(self).__name__

    def to_settings(self) -> dict[str, Any]:
        """The settings as a plain dict of numbers, booleans and strings."""
        return dataclasses.asdict(self)


def from_settings(kind: str, settings: Mapping[str, Any]) -> Optimizer:
    """The optimizer of a class name and a plain dict, as they travel; unknown names raise ConfigError."""
    if kind not in KINDS:
        raise ConfigError(f"there is no optimizer {kind!r}; there are {', '.join(sorted(KINDS))}")
    known = [field.name for field in dataclasses.fields(KINDS[kind])]
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise ConfigError(f"{kind} has no setting {unknown[0]!r}; it has {', '.join(known)}")
    return KINDS[kind](**settings)


def check_gradient(p: Any, g: Any) -> None:
    """Raises ConfigError when a gradient is not of its parameter's shape, or is complex where the parameter is not."""
    if p.shape != g.shape:
        raise ConfigError(f"a gradient of shape {g.shape} does not belong to a parameter of shape {p.shape}")
    if g.dtype.kind == "c" != p.dtype.kind:
        raise ConfigError(f"a gradient of {g.dtype} does not belong to a parameter of {p.dtype}")


def blocks(arrays: Sequence[Any]) -> Iterator[list[Any]]:
    """The same part of each array at a time, small enough for the cache and one-dimensional; whole arrays where they
    cannot be flattened without a copy.
    """
    if not all(isinstance(a, np.ndarray) and a.flags.c_contiguous for a in arrays):
        yield list(arrays)
        return
    flat = [a.reshape(-1) for a in arrays]
    for start in range(0, flat[0].size, BLOCK):
        yield [a[start : start + BLOCK] for a in flat]


def _real_parts(array: Any) -> Any:
    """A view of a complex array as real and imaginary parts, on one more axis; a real array as it is."""
    return array[..., np.newaxis].view(array.real.dtype) if array.dtype.kind == "c" else array


def _compute_dtype(dtype: Any) -> Any:
    """The dtype a parameter is updated in, and its state kept in: float32 for half precision."""
    return np.dtype(np.float32) if "float16" in str(dtype) else dtype
