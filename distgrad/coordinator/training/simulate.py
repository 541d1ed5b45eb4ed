"""What a schedule would come to: a step of a pipeline, simulated from the times of its tasks.

The simulation is `schedule.py` carried out: a worker that has nothing to do takes the most urgent task that is ready,
and microbatches are admitted as others end. Gradients of parameters come in many small tasks, so they give way to
whatever becomes ready; any other task runs to its end. Messages take `Costs.latency`, and go the ways that they really
go: the loss is told to the driver, which starts the backward pass; the end of the pass is acknowledged from worker to
worker, against the way of the gradients.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from .schedule import Kind, Schedule, Shape, Task

# Tasks that the gradients of a microbatch's parameters are divided into.
_PIECES = 8


@dataclass(frozen=True)
class Costs:
    """Seconds.

    Attributes:
        forward: of the call of each stage.
        gradient, weight: of the gradients of a microbatch in each run (`Shape.runs`): those that other processes wait
            for, and those of parameters.
        latency: from the end of a task to where a task that waits for it can begin in another process.
        update: of a step, after its last microbatch.
    """

    forward: tuple[float, ...]
    gradient: tuple[float, ...]
    weight: tuple[float, ...]
    latency: float = 0.0
    update: float = 0.0


@dataclass(frozen=True)
class Span:
    """A worker computes a task, or a piece of it."""

    worker: str
    task: Task
    start: float
    end: float


@dataclass
class Timeline:
    """A simulated step.

    Attributes:
        spans: in the order of their ends.
        seconds: of the step, its update included.
        alive: the most microbatches that were alive at once.
    """

    spans: list[Span] = field(default_factory=list)
    seconds: float = 0.0
    alive: int = 0

    def idle(self, worker: str) -> float:
        """The share of the step in which a worker computes no task."""
        return 1 - sum(span.end - span.start for span in self.spans if span.worker == worker) / self.seconds

    def chart(self, width: int = 100) -> str:
        """A line for each worker: what it computes at each of `width` moments, "·" for nothing."""
        rows = {worker: ["·"] * width for worker in sorted({span.worker for span in self.spans})}
        for moment in range(width):
            time = (moment + 0.5) * self.seconds / width
            for span in self.spans:
                if span.start <= time < span.end:
                    rows[span.worker][moment] = span.task.kind.value
        indent = max(map(len, rows))
        return "\n".join(f"{worker:>{indent}} {''.join(row)}" for worker, row in rows.items())


def simulate(schedule: Schedule, shape: Shape, costs: Costs) -> Timeline:
    """A step of the pipeline by that schedule."""
    return _Simulation(schedule, shape, costs).run()


class _Simulation:
    """One step. Events happen in the order of their times, and at one time in the order they were made."""

    def __init__(self, schedule: Schedule, shape: Shape, costs: Costs) -> None:
        self._schedule = schedule
        self._shape = shape
        self._costs = costs
        self._runs = shape.runs
        self._first = {stages[0]: number for number, stages in enumerate(self._runs)}
        self._timeline = Timeline()
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._made = 0
        # Tasks that could run, the most urgent first, and what is left of them; and whether a worker runs one.
        self._ready: dict[str, list[tuple[tuple[object, ...], int, Task, float]]] = {w: [] for w in shape.workers}
        self._busy = dict.fromkeys(shape.workers, False)
        self._admitted = self._ended = 0
        # By microbatch: runs whose gradients are not complete, and when the driver will know of those that are.
        self._left = [len(self._runs)] * shape.microbatches
        self._known = [0.0] * shape.microbatches

    def run(self) -> Timeline:
        for _ in range(self._schedule.window(self._shape)):
            self._admit()
        while self._events:
            self._now, _, happen = heapq.heappop(self._events)
            happen()
        self._timeline.seconds = self._now + self._costs.update
        return self._timeline

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        self._made += 1
        heapq.heappush(self._events, (self._now + seconds, self._made, happen))

    # ---- the driver --------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        if self._admitted < self._shape.microbatches:
            self._after(self._costs.latency, partial(self._become_ready, Task(Kind.FORWARD, 0, self._admitted)))
            self._admitted += 1
            self._timeline.alive = max(self._timeline.alive, self._admitted - self._ended)

    def _end(self) -> None:
        self._ended += 1
        self._admit()

    # ---- workers -----------------------------------------------------------------------------------------------------

    def _become_ready(self, task: Task, seconds: float | None = None) -> None:
        """A task can run, of which so much is left; None: all."""
        worker = self._shape.workers[task.stage]
        left = self._cost(task) if seconds is None else seconds
        self._made += 1
        rank = self._schedule.urgency(self._shape, task)
        heapq.heappush(self._ready[worker], (rank, self._made, task, left))
        # Whatever else becomes ready at this moment has its chance too.
        self._after(0.0, partial(self._take_turn, worker))

    def _take_turn(self, worker: str) -> None:
        if self._busy[worker] or not self._ready[worker]:
            return
        _, _, task, left = heapq.heappop(self._ready[worker])
        piece = left if task.kind is not Kind.WEIGHT else min(left, self._cost(task) / _PIECES)
        self._busy[worker] = True
        self._after(piece, partial(self._finish, worker, task, self._now, left - piece))

    def _finish(self, worker: str, task: Task, start: float, left: float) -> None:
        self._busy[worker] = False
        self._timeline.spans.append(Span(worker, task, start, self._now))
        if left > 1e-12:
            self._become_ready(task, left)
        else:
            self._follow(task)
        self._after(0.0, partial(self._take_turn, worker))

    def _cost(self, task: Task) -> float:
        match task.kind:
            case Kind.FORWARD:
                return self._costs.forward[task.stage]
            case Kind.GRADIENT:
                return self._costs.gradient[self._first[task.stage]]
            case Kind.WEIGHT:
                return self._costs.weight[self._first[task.stage]]

    # ---- what waits for what -----------------------------------------------------------------------------------------

    def _follow(self, task: Task) -> None:
        """A task is done: what waited for it goes on."""
        latency, workers, microbatch = self._costs.latency, self._shape.workers, task.microbatch
        if task.kind is Kind.FORWARD and task.stage + 1 < len(workers):
            following = Task(Kind.FORWARD, task.stage + 1, microbatch)
            near = workers[task.stage] == workers[task.stage + 1]
            self._after(0.0 if near else latency, partial(self._become_ready, following))
        elif task.kind is Kind.FORWARD:
            self._after(2 * latency, partial(self._become_ready, Task(Kind.GRADIENT, self._runs[-1][0], microbatch)))
        elif task.kind is Kind.GRADIENT:
            number = self._first[task.stage]
            if number:
                before = Task(Kind.GRADIENT, self._runs[number - 1][0], microbatch)
                self._after(latency, partial(self._become_ready, before))
            self._become_ready(Task(Kind.WEIGHT, task.stage, microbatch))
        else:
            self._acknowledge(self._first[task.stage], microbatch)

    def _acknowledge(self, number: int, microbatch: int) -> None:
        """The gradients of a run are complete."""
        hops = len(self._runs) - number
        self._known[microbatch] = max(self._known[microbatch], self._now + hops * self._costs.latency)
        self._left[microbatch] -= 1
        if not self._left[microbatch]:
            self._after(self._known[microbatch] - self._now, self._end)
