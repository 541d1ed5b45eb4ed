"""Schedules: in what order a worker takes the work of a step's microbatches.

The calls of all microbatches are under way at once, so a worker often has several tasks that could run: forward calls
(F), gradients that another process waits for (B), gradients of its own parameters (W). A schedule is two pure
functions of the pipeline's shape:

- `urgency`: which ready task goes first. It travels with calls and backward passes to the workers. It orders what is
  ready and makes nobody wait for a task that is not, so a late message costs no more than its own delay; and it cannot
  change a bit, as sums have an order of their own.
- `alive`: how many microbatches may be between their first call and the end of their backward pass. This is the only
  hard limit, as it is what bounds memory: no stage holds activations of more microbatches than that, nor gradients that
  were put off. The coordinator admits microbatches in their order, each as an earlier one ends.

Everywhere a gradient that another process waits for precedes those of parameters, which fill the gaps (B and W are
split, as in Zero Bubble): the engine sees to that, and no schedule takes it back.

- `gpipe` (Huang et al., 2018, arXiv 1811.06965): all F, then all B. The most memory, the fewest turns; robust against
  latency.
- `1f1b` (PipeDream-flush; Narayanan et al., 2020, arXiv 2006.15704): B, then W, before any new F, and no more alive
  than fill the pipeline. `warm_up` allows more, which hides the latency of links and of admission.
- `interleaved` (Megatron-LM; Narayanan et al., 2021, arXiv 2104.04473): for workers that have several stages apart from
  one another (w0, w1, w0, w1): as 1f1b, but F goes in groups of as many microbatches as there are workers, each group
  through one round of stages after the other. Smaller bubbles, more messages.
- `zero-bubble` (Qi et al., 2023, arXiv 2401.10241): B, then F, and W when there is neither. With `warm_up` 0 it holds
  what 1f1b holds, as ZB-H1 does; with the depth of the pipeline or more, it may come to no bubble, as ZB-H2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import groupby, pairwise

from distgrad.graph.urgency import Urgencies
from distgrad.graph.waiting import OrderKey, Priority, Urgency


class Kind(Enum):
    """What a task computes."""

    FORWARD = "F"
    GRADIENT = "B"
    WEIGHT = "W"


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker computes in one go: the call of a stage, or a microbatch's gradients in consecutive stages of one
    worker, of which `stage` is the first."""

    kind: Kind
    stage: int
    microbatch: int

    def __str__(self) -> str:
        return f"{self.kind.value}{self.microbatch}" + (f".{self.stage}" if self.kind is Kind.FORWARD else "")


@dataclass(frozen=True)
class Shape:
    """A pipeline.

    Attributes:
        workers: of the stages, in the order of the calls.
        microbatches: in a step.
        warm_up: microbatches that may be alive beyond those that fill the pipeline; None: as many again.
    """

    workers: tuple[str, ...]
    microbatches: int
    warm_up: int | None = None

    @property
    def depth(self) -> int:
        """How many microbatches fill the pipeline: stages, where consecutive ones of one worker count once."""
        return 1 + sum(one != other for one, other in pairwise(self.workers))

    @property
    def runs(self) -> list[range]:
        """The stages in groups of consecutive ones of one worker."""
        groups = [list(group) for _, group in groupby(range(len(self.workers)), self.workers.__getitem__)]
        return [range(group[0], group[-1] + 1) for group in groups]

    @property
    def width(self) -> int:
        """How many workers there are."""
        return len(set(self.workers))

    @property
    def slack(self) -> int:
        return self.depth if self.warm_up is None else self.warm_up


@dataclass(frozen=True)
class Schedule:
    """See the top of this file.

    Attributes:
        kinds: of tasks, the most urgent first.
        alive: how many microbatches of a pipeline may be alive at once.
        order: among tasks of one kind, smaller first.
        warms_up: whether `Shape.warm_up` has a meaning.
    """

    name: str
    kinds: str
    alive: Callable[[Shape], int]
    order: Callable[[Shape, Task], OrderKey]
    warms_up: bool = True

    def urgency(self, shape: Shape, task: Task) -> Urgency:
        """When a task of a pipeline has its turn, among those that are ready at its worker."""
        return Urgency(Priority(1 + self.kinds.index(task.kind.value)), self.order(shape, task))

    def urgencies(self, shape: Shape, stage: int, microbatch: int) -> Urgencies:
        """What a call of that stage, and its microbatch's backward pass, are given to travel with."""
        return Urgencies(*(self.urgency(shape, Task(kind, stage, microbatch)) for kind in Kind))

    def window(self, shape: Shape) -> int:
        """`alive`, of as many microbatches as there are."""
        return min(self.alive(shape), shape.microbatches)


def _all(shape: Shape) -> int:
    return shape.microbatches


def _filled(shape: Shape) -> int:
    return shape.depth + shape.slack


def _two_rounds(shape: Shape) -> int:
    return 2 * shape.width + shape.slack


def _by_microbatch(shape: Shape, task: Task) -> OrderKey:
    return (task.microbatch,)


def _by_round(shape: Shape, task: Task) -> OrderKey:
    """Calls by group of microbatches, then by round through the workers."""
    if task.kind is not Kind.FORWARD:
        return (task.microbatch,)
    run = next(number for number, stages in enumerate(shape.runs) if task.stage in stages)
    return (task.microbatch // shape.width, run // shape.width, task.microbatch)


SCHEDULES = {
    schedule.name: schedule
    for schedule in (
        Schedule("gpipe", "FBW", _all, _by_microbatch, warms_up=False),
        Schedule("1f1b", "BWF", _filled, _by_microbatch),
        Schedule("interleaved", "BWF", _two_rounds, _by_round),
        Schedule("zero-bubble", "BFW", _filled, _by_microbatch),
    )
}
