"""What calls, backward passes and transfers cost, beside torch.distributed.rpc where torch is installed.

Both are measured in turns of some runs, so that a noisy machine is noisy for both: a driver and its workers on this
machine, one BLAS thread in each process. Every lane is measured in a process of its own, `python -m
distgrad.cluster.bench`, since BLAS reads its number of threads at import. Over `unix` torch may use shared memory as we
do; over the others it is held to its TCP transport. Torch's processes look into their shared memory all the time, which
would slow down whoever shares the machine with them: they are stopped while it is not their turn.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any, Protocol

from distgrad.errors import ConfigError
from distgrad.show.figures import Figure
from distgrad.worker.children import THREADS

# Of the layers of a pipeline, and the rows of a microbatch.
WIDTH, ROWS = 256, 32
# Runs of a program in one turn, as in a loop that trains: what comes right after the other side's is slower, for both.
_IN_A_ROW = 20
_MEBIBYTES_IN_A_ROW = 320
# Seconds that torch's processes may take to end.
_FAREWELL = 20
# Runs of each program before any is timed, and the fewest that are.
_WARM_UP, _FEWEST = 3, 5

Run = Callable[[], float]


class Runs(Protocol):
    """What each side can do. All return seconds; see `bench_ours.Ours`."""

    def call(self) -> float: ...
    def one_way(self, mebibytes: int) -> Run: ...
    def chain(self, length: int, bring_back: bool) -> float: ...
    def fan_out(self, calls: int) -> float: ...
    def workers(self, count: int) -> float: ...
    def contexts(self, count: int) -> float: ...
    def steps(self, stages: int, microbatches: int) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Something to measure.

    Attributes:
        name, label: as those of `Figure`.
        run: one timed run of it by a side.
        in_a_row: how many runs make a turn of a side; its figure is their median.
        workers: how many it needs.
        mebibytes: the figure is how fast so much is moved.
        rate: the figure is how often it is done in a second.
        targets: how many times faster it should be than the peer, by lane.
        against: the peer, a program of ours; None: torch.
    """

    name: str
    label: str
    run: Callable[[Any], Run]
    in_a_row: int = _IN_A_ROW
    workers: int = 2
    mebibytes: int = 0
    rate: bool = False
    targets: Mapping[str, float] = field(default_factory=dict)
    against: Callable[[Any], Run] | None = None

    def turn(self, run: Run) -> Run:
        """The runs of one turn, given one of them."""
        return lambda: statistics.median(run() for _ in range(self.in_a_row))

    def figure(self, lane: str, ours: float, theirs: float | None) -> Figure:
        """The figure, given the medians in seconds."""
        target = self.targets.get(lane, 0.0)
        shown = Figure(lane=lane, name=self.name, label=self.label, target=target, **self._amount("ours", ours))
        if theirs is None:
            return shown
        peer = "torch" if self.against is None else "plain pass"
        beside = {"peer": peer, "ratio": theirs / ours, **self._amount("theirs", theirs)}
        return Figure(**(asdict(shown) | beside))

    def _amount(self, whose: str, seconds: float) -> dict[str, Any]:
        if self.mebibytes:
            return {whose: self.mebibytes * 2**20 / seconds / 1e9, "unit": "GB/s"}
        return {whose: 1 / seconds, "unit": "1/s"} if self.rate else {whose: 1e3 * seconds, "unit": "ms"}


def _measures() -> Iterator[Measure]:
    yield Measure(
        name="call",
        label="call round trip, small tensor",
        run=_times("call"),
        targets={"unix": 5, "grpc": 1.5},
    )
    for n in (1, 4, 16, 64):
        targets = {"unix": 4.0} if n == 64 else {}
        yield Measure(
            name=f"chain-{n}",
            label=f"backward, chain of {n}, by reference",
            run=_times("chain", n, False),
            targets=targets,
        )
        yield Measure(
            name=f"chain-{n}-back",
            label=f"backward, chain of {n}, values brought back",
            run=_times("chain", n, True),
        )
    for n in (1, 4, 16, 64):
        yield Measure(
            name=f"fan-out-{n}",
            label=f"backward, fan-out of {n}",
            run=_times("fan_out", n),
            targets={"unix": 8} if n == 64 else {},
        )
    for size in (1, 16, 64, 256):
        yield Measure(
            name=f"{size}MiB",
            label=f"{size} MiB, one way",
            run=_one_way(size),
            in_a_row=max(1, min(_IN_A_ROW, _MEBIBYTES_IN_A_ROW // size)),
            mebibytes=size,
            targets={"unix": 3, "tcp": 1} if size > 1 else {},
        )
    for n in (2, 4, 8):
        yield Measure(
            name=f"workers-{n}",
            label=f"call and backward, {n} workers at once",
            run=_times("workers", n),
            workers=n,
        )
    yield Measure(
        name="contexts-16",
        label="call and backward in 16 contexts at once",
        run=_times("contexts", 16),
    )
    yield Measure(
        name="steps",
        label="steps: 4 shards, 8 microbatches",
        run=_times("steps", 4, 8),
        workers=4,
        rate=True,
    )
    yield Measure(
        name="fallback",
        label="backward with an unused result, fan-out of 16",
        run=_times("unused", 16),
        targets=dict.fromkeys(("unix", "tcp", "grpc"), 1 / 1.5),
        against=_times("fan_out", 16),
    )


def _times(method: str, *arguments: Any) -> Callable[[Any], Run]:
    """Runs that method of a side."""
    return lambda side: partial(getattr(side, method), *arguments)


def _one_way(mebibytes: int) -> Callable[[Any], Run]:
    return lambda side: side.one_way(mebibytes)


MEASURES = {measure.name: measure for measure in _measures()}


def seconds(run: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


# ---- measuring, in a process for each lane ---------------------------------------------------------------------------


def figures(lanes: Iterable[str], names: Sequence[str], budget: float, torch: bool) -> Iterator[Figure]:
    """Measures one lane after the other.

    Arguments:
        names: of `MEASURES`.
        budget: seconds for each of them.
        torch: beside torch's; of no effect where it is not installed.

    Raises:
        ConfigError: there is no such measure, or a lane could not be measured.
    """
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        raise ConfigError(f"there is no measure {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    beside = "torch" if torch and find_spec("torch") is not None else "alone"
    environment = os.environ | dict.fromkeys(THREADS, "1")
    for lane in lanes:
        command = [sys.executable, "-W", "ignore", "-m", __name__, lane, str(budget), beside, *names]
        # A group of its own: Ctrl-C is for this process, which ends the other.
        child = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
        )
        with child:
            assert child.stdout is not None
            try:
                for line in child.stdout:
                    yield Figure(**json.loads(line))
            except BaseException:
                child.terminate()
                child.wait()
                raise
        if child.returncode:
            raise ConfigError(f"lane {lane} was not measured to the end: see above")


def _measure(lane: str, chosen: Sequence[Measure], budget: float, torch: bool) -> Iterator[Figure]:
    from .bench_ours import our_side

    workers = max(measure.workers for measure in chosen)
    with ExitStack() as stack:
        theirs = stack.enter_context(_Torch(lane, workers)) if torch else None
        ours = stack.enter_context(our_side(lane, workers))
        for measure in chosen:
            programs = [measure.turn(measure.run(ours))]
            if measure.against is not None:
                programs.append(measure.turn(measure.against(ours)))
            elif theirs is not None:
                programs.append(partial(theirs.run, measure.name))
            yield measure.figure(lane, *_medians(programs, budget))


class _Torch:
    """Torch's side, in processes that go on only while they are asked."""

    def __init__(self, lane: str, workers: int) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "distgrad.cluster.bench_torch", "serve", lane, str(workers)]
        # A group of their own, to be stopped; when this process dies, the system ends a group that is.
        self._rank0 = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
        )
        self._hear()
        self._signal(signal.SIGSTOP)

    def run(self, name: str) -> float:
        """Seconds of a run of a measure, the median of a turn."""
        assert self._rank0.stdin is not None
        self._signal(signal.SIGCONT)
        self._rank0.stdin.write(f"{name}\n")
        self._rank0.stdin.flush()
        found = float(self._hear())
        self._signal(signal.SIGSTOP)
        return found

    def _hear(self) -> str:
        assert self._rank0.stdout is not None
        line = self._rank0.stdout.readline()
        if not line:
            raise ConfigError("torch.distributed.rpc has ended: see above, or measure with --no-torch")
        return line

    def _signal(self, number: int) -> None:
        os.killpg(self._rank0.pid, number)

    def __enter__(self) -> _Torch:
        return self

    def __exit__(self, *exception: object) -> None:
        self._signal(signal.SIGCONT)
        try:
            self._rank0.communicate(timeout=_FAREWELL)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._rank0.communicate()


def _medians(programs: Sequence[Run], budget: float) -> tuple[float, float | None]:
    """Median seconds of one program, or of two that are run in turns."""
    times: list[list[float]] = [[] for _ in programs]
    for _ in range(_WARM_UP):
        for run in programs:
            run()
    end = time.monotonic() + budget
    while len(times[0]) < _FEWEST or time.monotonic() < end:
        for run, found in zip(programs, times, strict=True):
            found.append(run())
    ours, *others = map(statistics.median, times)
    return ours, others[0] if others else None


def main(lane: str, budget: str, beside: str, *names: str) -> None:
    """Prints a figure a line, as JSON. SIGTERM, and the end of whoever holds the other end of the standard input, end
    it as an exception does: what it has started is closed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    for figure in _measure(lane, [MEASURES[name] for name in names], float(budget), beside == "torch"):
        print(json.dumps(asdict(figure)), flush=True)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


if __name__ == "__main__":
    main(*sys.argv[1:])
