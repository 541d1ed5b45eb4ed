"""Random programs over shards on any number of workers, full of dead branches, against the same program in one
process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import distgrad as dg
from distgrad.errors import DistgradError, GradientError

from .shards import Dense, Router
from .worlds import SPREAD, ClusterWorld, LocalWorld, Placement, cluster_world, same

SHARDS: dict[str, Callable[[], Any]] = {
    "a": partial(Dense, 1),
    "b": partial(Dense, 2),
    "c": partial(Dense, 3),
    "r": Router,
    "q": partial(Router, 5),
}

# (method, values it takes, whether it fails); what it returns is a vector of three.
DENSE = [
    ("forward", 1, False),
    ("add", 2, False),
    ("add", 3, False),
    ("ignores", 2, False),
    ("detached", 1, False),
    ("constant", 1, False),
    ("bias", 0, False),
    ("identity", 1, False),
    ("square_without_grad", 1, False),
    ("fail", 1, True),
]
ROUTER = ["through", "through_waiting", "catches", "unused_call", "tie"]
# What the program itself does with values it has fetched.
HERE: list[Callable[..., Any]] = [
    lambda x: dg.ops.sin(x) * 2.0,
    lambda x: x.detach() * 1.5,
    lambda x: x * x,
]


# Kinds of steps that give a value.
COMPUTED = ("dense", "router", "checkpoint", "here")

SEED = np.array([1.0, -2.0, 0.5])


@dataclass(frozen=True)
class Step:
    """One step of a program: `take` are positions among the values so far, counted from the latest."""

    kind: str
    shard: str = ""
    method: str = ""
    take: tuple[int, ...] = ()
    others: tuple[str, ...] = ()
    which: int = 0
    fails: bool = False


def takes(count: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(0, 5)] * count)


@st.composite
def steps(draw: st.DrawFn) -> Step:
    kind = draw(
        st.sampled_from([*["dense"] * 4, *["router"] * 2, "here", "checkpoint", "checkpoint", "backward", "grad"])
    )
    if kind == "dense":
        method, count, fails = draw(st.sampled_from(DENSE))
        return Step(kind, draw(st.sampled_from("abc")), method, draw(takes(count)), fails=fails)
    if kind == "router":
        method = draw(st.sampled_from(ROUTER))
        others = tuple(draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=2)))
        return Step(kind, draw(st.sampled_from("rq")), method, draw(takes(1)), others)
    if kind == "checkpoint":
        method = draw(st.sampled_from(["forward", "identity", "detached", "through_waiting", "tie"]))
        others = tuple(draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=2)))
        shard = draw(st.sampled_from("rq" if method in ROUTER else "abc"))
        return Step(kind, shard, method, draw(takes(2)), others, draw(st.integers(0, len(HERE) - 1)))
    if kind == "here":
        return Step(kind, take=draw(takes(1)), which=draw(st.integers(0, len(HERE) - 1)))
    return Step(kind, take=draw(takes(2)))


def run(program: list[Step], world: Any) -> dict[str, Any]:
    """The program in a world. Several passes share one graph, so all retain it."""
    x, y = world.variable("x", [0.3, -1.2, 0.7]), world.variable("y", [1.1, 0.4, -0.5])
    values: list[Any] = [x, y]
    observed: dict[str, Any] = {}
    with world.context() as ctx:
        for k, step in enumerate(program):
            chosen = [values[-1 - (n % len(values))] for n in step.take]
            if step.fails:
                observed[f"error {k}"] = _caught(_computed(world, step, chosen))
            elif step.kind in COMPUTED:
                values.append(_computed(world, step, chosen))
            elif step.kind == "grad":
                found = _grad(ctx, *chosen)
                if isinstance(found, str):
                    observed[f"grad {k}"] = found
                else:
                    values.append(found)
            else:
                observed[f"pass {k}"] = _backward(ctx, chosen)
        observed["last pass"] = _backward(ctx, [values[-1]])
        observed["values"] = [value.numpy() for value in values]
        observed["gradients"] = world.gradients(ctx)
    return observed


def _computed(world: Any, step: Step, chosen: list[Any]) -> Any:
    """The value of a step of one of the kinds `COMPUTED`."""
    if step.kind == "dense":
        return getattr(world.shard(step.shard), step.method)(*chosen)
    if step.kind == "router":
        return _routed(world, step, chosen[0])
    if step.kind == "checkpoint":
        return world.checkpoint(partial(_block, world, step))(*map(_here, chosen))
    return HERE[step.which](_here(chosen[0]))


def run_forward(program: list[Step], world: Any) -> dict[str, Any]:
    """The program's derivative along a direction, its derivative in turn, and the gradient of it."""

    def f(x: Any, y: Any) -> Any:
        values: list[Any] = [x, y]
        for step in program:
            chosen = [values[-1 - (n % len(values))] for n in step.take]
            if step.fails:
                _caught(_computed(world, step, chosen))
            elif step.kind in COMPUTED:
                values.append(_computed(world, step, chosen))
        return _here(values[-1])

    def along(x: Any, y: Any) -> Any:
        return dg.jvp(f, (x, y), (y, SEED))[1]

    with world.context():
        x, y = np.array([0.3, -1.2, 0.7]), np.array([1.1, 0.4, -0.5])
        return {
            "jvp": dg.jvp(f, (x, y), (y, SEED)),
            "jvp of jvp": dg.jvp(along, (x, y), (SEED, x)),
            "gradient of jvp": dg.grad(lambda x, y: (along(x, y) * SEED).sum(), argnums=(0, 1))(x, y),
        }


def _block(world: Any, step: Step, x: Any, y: Any) -> Any:
    """Computes here and calls a shard, for a checkpoint to be put around."""
    h = HERE[step.which](x) * y
    shard = world.shard(step.shard)
    return (_routed(world, step, h) if step.shard in "rq" else getattr(shard, step.method)(h)).get() + x


def _routed(world: Any, step: Step, x: Any) -> Any:
    router = world.shard(step.shard)
    others = [world.shard(name) for name in step.others]
    if step.method.startswith("through"):
        return getattr(router, step.method)(x, *others)
    return router.tie(others[0], x) if step.method == "tie" else getattr(router, step.method)(x, others[0])


def _here(value: Any) -> Any:
    return value if isinstance(value, dg.Tensor) else value.get()


def _caught(ref: Any) -> str:
    with pytest.raises(DistgradError) as caught:
        ref.get()
    return getattr(caught.value, "original_message", type(caught.value).__name__)


def _grad(ctx: Any, root: Any, x: Any) -> Any:
    """The gradient of a root by another value, to be computed with; or that there is none.

    An input that is not recorded is an error, if the pass comes to where it is.
    """
    try:
        found = ctx.grad(root, x, SEED, create_graph=True)
    except GradientError:
        return "none"
    return "none" if found is None else found


def _backward(ctx: Any, roots: list[Any]) -> str:
    """How the pass ended: a root may have no gradient."""
    try:
        ctx.backward(roots, [SEED] * len(roots), retain_graph=True)
    except DistgradError as error:
        return type(error).__name__
    return "done"


def check(
    program: list[Step],
    workers: int,
    home: str,
    seed: int,
    run: Callable[[list[Step], Any], dict[str, Any]] = run,
    **network: float,
) -> None:
    expected = run(program, LocalWorld(SHARDS))
    first: Any = None
    for placement in (Placement("one worker", lambda k: "w0"), Placement("spread", lambda k: f"w{k % workers}", home)):
        with cluster_world(SHARDS, placement, seed, **network) as world:
            assert isinstance(world, ClusterWorld)
            found = run(program, world)
        same(found, expected, placement.name, exact=False, tolerance=1e-9)
        same(found, first or found, f"{placement.name} against one worker", exact=True)
        first = found


programs = st.lists(steps(), min_size=2, max_size=14)
everywhere = {
    "program": programs,
    "workers": st.integers(1, 3),
    "home": st.sampled_from(["driver", "w0"]),
    "seed": st.integers(0, 2**16),
}
# Explaining a failure takes far longer than finding it.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)


@settings(max_examples=30, derandomize=True, phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
@given(**everywhere)
def test_a_random_program_means_the_same_everywhere(program: list[Step], workers: int, home: str, seed: int) -> None:
    check(program, workers, home, seed)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=500, phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
@given(**everywhere)
def test_many_random_programs_mean_the_same_everywhere(program: list[Step], workers: int, home: str, seed: int) -> None:
    check(program, workers, home, seed)


@settings(max_examples=15, derandomize=True, phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
@given(**everywhere)
def test_forward_mode_of_a_random_program_means_the_same_everywhere(
    program: list[Step], workers: int, home: str, seed: int
) -> None:
    check(program, workers, home, seed, run_forward)


@pytest.mark.slow
@settings(max_examples=200, phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
@given(**everywhere)
def test_forward_mode_of_many_random_programs_means_the_same_everywhere(
    program: list[Step], workers: int, home: str, seed: int
) -> None:
    check(program, workers, home, seed, run_forward)


@settings(max_examples=15, derandomize=True, phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
@given(**everywhere)
def test_a_random_program_survives_links_that_break(program: list[Step], workers: int, home: str, seed: int) -> None:
    check(program, workers, home, seed, breaks=0.02, duplicates=0.1)


# ---- processes that end in the middle --------------------------------------------------------------------------------


def end_after(world: ClusterWorld, name: str, frames: int) -> threading.Thread:
    """Closes a worker, in a thread, when that many frames have arrived anywhere."""
    left = threading.Semaphore(0)
    network = world.cluster.network
    arrive = network._arrive

    def counted(lane: Any) -> None:
        left.release()
        arrive(lane)

    network._arrive = counted  # type: ignore[method-assign]

    def close() -> None:
        for _ in range(frames):
            if not left.acquire(timeout=5):
                return
        world.cluster.workers.pop(name).close()

    thread = threading.Thread(target=close)
    thread.start()
    return thread


def survive(program: list[Step], victim: int, frames: int, seed: int) -> None:
    """Whatever the program comes to, it comes to an end, and leaves nothing on those that are left."""
    with cluster_world(SHARDS, SPREAD, seed) as world:
        thread = end_after(world, f"w{victim}", frames)
        with contextlib.suppress(DistgradError):
            run(program, world)
        # It may not have come to that while the program ran.
        while thread.is_alive():
            with contextlib.suppress(DistgradError), world.context():
                world.shard("abc"[(victim + 1) % 3]).forward(np.ones(3)).get()
        thread.join()


@settings(max_examples=25, derandomize=True, phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
@given(program=programs, victim=st.integers(0, 2), frames=st.integers(1, 120), seed=st.integers(0, 2**16))
def test_a_random_program_ends_when_a_worker_does(program: list[Step], victim: int, frames: int, seed: int) -> None:
    survive(program, victim, frames, seed)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=300, phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
@given(program=programs, victim=st.integers(0, 2), frames=st.integers(1, 200), seed=st.integers(0, 2**16))
def test_many_random_programs_end_when_a_worker_does(program: list[Step], victim: int, frames: int, seed: int) -> None:
    survive(program, victim, frames, seed)
