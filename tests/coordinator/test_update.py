"""Updates happen on every owner or on none, whatever fails and whenever."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import distgrad as dg
from distgrad.coordinator.client import Client
from distgrad.coordinator.journal import Decision
from distgrad.coordinator.optimizer import RemoteOptimizer, StepResult
from distgrad.errors import ConfigError, ContextError, DistgradError, JournalError, PermissionDenied, WorkerLost
from distgrad.wire import pb
from distgrad.worker.ownership import Ownership
from tests.coordinator.cluster import PROGRAMS, Cluster, cluster

ONES = (1.0, 1.0)


class World:
    """Shard a on w0 and shard b on w1 under plain gradient descent with learning rate 1.

    The gradient of a context is what it is told to be, so that what parameters become can be said beforehand.
    """

    def __init__(self, made: Cluster, client: Client) -> None:
        self.cluster = made
        self.client = client
        self.updates = made.coordinator.updates
        self.shards = {name: client.place(name, "parts.py:Sum", worker) for name, worker in (("a", "w0"), ("b", "w1"))}
        self.optimizer: RemoteOptimizer = client.optimizer(dg.optim.SGD(1.0), list(self.shards.values()), "sgd")

    def step(self, *gradients: dict[str, Any], **how: float) -> StepResult:
        """One step by contexts with these gradients, by shard."""
        with ExitStack() as stack:
            contexts = [stack.enter_context(self.client.context()) for _ in gradients]
            for context, gradient in zip(contexts, gradients, strict=True):
                with context:
                    roots = [self.shards[name].dot(np.array(x, float)) for name, x in gradient.items()]
                    context.backward(roots)
            return self.optimizer.step(*contexts, **how)

    def values(self) -> dict[str, list[float]]:
        """The parameters of the shards that are there, and the numbers of calls their buffers have counted."""
        found = {}
        for worker in self.cluster.workers.values():
            for name, hosted in worker.host.shards.items():
                state = hosted.shard.state_dict()
                found[name] = [*state["weight"].tolist(), state["calls"].item()]
        return found

    def owners(self) -> list[Ownership]:
        return [worker.host.owner("sgd") for worker in self.cluster.workers.values() if worker.host.shards]

    def check_agreement(self, version: int) -> None:
        """All who are there agree on the version, and nothing is left pinned."""
        made = self.cluster
        # Withdrawals are not awaited; what is asked after them is answered after them.
        for worker in made.workers.values():
            for name in worker.host.shards:
                made.coordinator.process.ask(worker.process.name, pb.ReadState(shard=name))
        assert self.updates.versions() == {"sgd": version}
        assert self.optimizer.version == version
        assert [(owner.version, owner.pinned) for owner in self.owners()] == [(version, False)] * len(self.owners())

    def decisions(self) -> list[Decision]:
        assert self.cluster.coordinator.journal is not None
        return list(self.cluster.coordinator.journal)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with cluster(PROGRAMS, "w0", "w1", journal=tmp_path / "journal") as (made, client):
        yield World(made, client)


# ---- what a step does ------------------------------------------------------------------------------------------------


def test_a_step_moves_all_owners_and_is_in_the_journal(world: World) -> None:
    result = world.step({"a": (3, 0), "b": (0, 4)})
    assert (result.applied, result.norm) == (True, 5.0)
    assert world.values() == {"a": [-3, 0, 1], "b": [0, -4, 1]}
    world.check_agreement(1)
    (decision,) = world.decisions()
    incarnations = {name: worker.process.identity.incarnation for name, worker in world.cluster.workers.items()}
    assert decision == Decision("sgd", 1, "commit", 1.0, 1.0, 5.0, incarnations, term=1)


def test_several_contexts_are_summed(world: World) -> None:
    world.step({"a": (1, 2)}, {"a": (10, 20), "b": (5, 5)}, {"b": (1, 1)})
    assert world.values() == {"a": [-11, -22, 2], "b": [-6, -6, 2]}


def test_the_order_of_contexts_is_the_order_of_the_sum(world: World) -> None:
    big, one, minus = {"a": (1e16, 0)}, {"a": (1, 0)}, {"a": (-1e16, 0)}
    world.step(big, one, minus)
    assert world.values()["a"][0] == 0
    world.step(big, minus, one)
    assert world.values()["a"][0] == -1


def test_an_owner_without_gradients_advances_its_version_all_the_same(world: World) -> None:
    world.step({"a": ONES})
    world.check_agreement(1)
    assert world.values() == {"a": [-1, -1, 1], "b": [0, 0, 0]}


@pytest.mark.parametrize(
    ("clip", "moved"), [(0.0, (3, 4)), (5.0, (3, 4)), (6.0, (3, 4)), (2.5, (1.5, 2)), (math.inf, (3, 4))]
)
def test_gradients_are_clipped_by_the_norm_of_all_together(world: World, clip: float, moved: tuple[float, ...]) -> None:
    assert world.step({"a": (3, 0), "b": (0, 4)}, clip_norm=clip).norm == 5.0
    assert [-world.values()["a"][0], -world.values()["b"][1]] == list(moved)


def test_the_norm_is_exact_whatever_the_sizes(world: World) -> None:
    parts = [1e8, 1.0, 1e-8, 3.0]
    norm = world.step({"a": parts[:2], "b": parts[2:]}).norm
    by_parameter = [float(np.sqrt(np.dot(x, x))) for x in (np.array(parts[:2]), np.array(parts[2:]))]
    assert norm == math.sqrt(math.fsum(x * x for x in by_parameter))


@pytest.mark.parametrize(("rate", "moved"), [(None, 1.0), (0.5, 0.5), (0.0, 0.0)])
def test_a_step_may_have_a_learning_rate_of_its_own_zero_included(
    world: World, rate: float | None, moved: float
) -> None:
    world.step({"a": ONES}, learning_rate=rate)  # type: ignore[arg-type]
    assert world.values()["a"][:2] == [-moved, -moved]
    assert world.decisions()[-1].learning_rate == moved


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200])
def test_a_gradient_that_is_not_finite_changes_nothing_anywhere(world: World, bad: float) -> None:
    world.step({"a": ONES, "b": ONES})
    before = world.values()
    result = world.step({"a": ONES, "b": (bad, 1)})
    assert not result.applied
    assert not math.isfinite(result.norm)
    assert world.values() == before
    world.check_agreement(1)
    assert [d.outcome for d in world.decisions()] == ["commit", "abort"]
    assert world.step({"a": ONES}).applied
    world.check_agreement(2)


# ---- asked amiss, or again -------------------------------------------------------------------------------------------


def test_a_step_asked_for_again_is_answered_again_and_taken_once(world: World) -> None:
    with world.client.context() as ctx:
        ctx.backward(world.shards["a"].dot(np.ones(2)))
        ctx.settle()
        first = world.updates.step("sgd", 1, [ctx.id])
        assert world.updates.step("sgd", 1, [ctx.id]) is first
    assert world.values()["a"][0] == -1


@pytest.mark.parametrize("version", [0, 2, 7])
def test_only_the_next_step_can_be_taken(world: World, version: int) -> None:
    with pytest.raises(ContextError, match=f"optimizer 'sgd' is at version 0; asked for {version}"):
        world.updates.step("sgd", version, [])
    world.check_agreement(0)


def test_an_optimizer_that_is_not_there_is_named_with_those_that_are(world: World) -> None:
    with pytest.raises(ConfigError, match="there is no optimizer 'adam'; there are sgd"):
        world.updates.step("adam", 1, [])


def test_a_step_that_another_client_has_taken_meanwhile_is_not_taken_for_ones_own(world: World) -> None:
    other = world.cluster.client("other")
    second = other.optimizer(dg.optim.SGD(1.0), [other.shard("a"), other.shard("b")], "sgd")
    with other.context() as ctx:
        ctx.backward(other.shard("a").dot(np.ones(2)))
        world.step({"a": ONES})
        with pytest.raises(ContextError, match="is at version 1; asked for 1: somebody else has taken that step"):
            second.step(ctx)
    world.check_agreement(1)


def test_two_clients_that_step_one_optimizer_take_turns(world: World) -> None:
    other = world.cluster.client("other")
    second = other.optimizer(dg.optim.SGD(1.0), [other.shard("a"), other.shard("b")], "sgd")
    assert second.version == 0
    world.step({"a": ONES})
    with other.context() as ctx, pytest.raises(ContextError, match=r"is at version 1; asked for 1|is at 1 now"):
        ctx.backward(other.shard("a").dot(np.ones(2)))
        second.step(ctx)
    world.check_agreement(1)


@pytest.mark.parametrize(
    ("name", "kind", "settings", "workers", "message"),
    [
        ("sgd", "SGD", {"lr": 2.0}, {"a": "w0", "b": "w1"}, r"optimizer 'sgd' already, with other .*name of its own"),
        ("sgd", "SGD", {"lr": 1.0}, {"a": "w0"}, "optimizer 'sgd' already, with other shards or settings"),
        ("more", "SGD", {"lr": 1.0}, {"a": "w0"}, "shard 'a' is under optimizer 'sgd' already"),
        ("more", "SGDD", {"lr": 1.0}, {}, "there is no optimizer 'SGDD'; there are .*SGD"),
        ("more", "SGD", {"rate": 1.0}, {}, "SGD has no setting 'rate'"),
        ("more", "SGD", {"lr": 1.0}, {}, "optimizer 'more' was given no shards"),
    ],
)
def test_an_optimizer_that_cannot_be_made_says_why_and_leaves_nothing(
    world: World, name: str, kind: str, settings: dict[str, float], workers: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        world.updates.create(name, workers, kind, settings)
    assert world.updates.versions() == {"sgd": 0}


def test_an_optimizer_made_again_is_the_one_there_is(world: World) -> None:
    world.step({"a": ONES})
    again = world.client.optimizer(dg.optim.SGD(1.0), list(world.shards.values()), "sgd")
    assert again.version == 1
    assert world.values()["a"] == [-1, -1, 1]


# ---- faults ----------------------------------------------------------------------------------------------------------


class Faults:
    """Does something at an exact boundary of an update: when the coordinator is about to send an order, or around the
    writing of its decision."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self._world = world
        self._patch = monkeypatch

    def before_order(self, order: type, worker: str, act: Callable[[], None]) -> None:
        """Acts once, before the first `order` to `worker` is sent."""
        process = self._world.cluster.coordinator.process
        send, pending = process.request, [act]

        def request(peer: str, body: Any, arrays: Any = ()) -> Any:
            if pending and (type(body), peer) == (order, worker):
                pending.pop()()
            return send(peer, body, arrays)

        self._patch.setattr(process, "request", request)

    def around_decision(self, before: Callable[[], None], after: Callable[[], None]) -> None:
        """Acts once, before and after the first decision is written."""
        journal = self._world.cluster.coordinator.journal
        assert journal is not None
        append = journal.append

        def faulty(decision: Decision) -> Decision:
            self._patch.setattr(journal, "append", append)
            before()
            decided = append(decision)
            after()
            return decided

        self._patch.setattr(journal, "append", faulty)


@pytest.fixture
def faults(world: World, monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(world, monkeypatch)


def nothing() -> None: ...


def fail(error: Exception) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


BOTH = {"a": ONES, "b": ONES}
FIRST = {"a": [-1.0, -1.0, 1.0], "b": [-1.0, -1.0, 1.0]}


@pytest.mark.parametrize("order", [pb.Prepare, pb.Commit, pb.Withdraw], ids=lambda order: order.__name__)
@pytest.mark.parametrize("worker", ["w0", "w1"])
def test_an_owner_that_is_lost_at_any_order_leaves_the_others_agreed(
    world: World, faults: Faults, order: type, worker: str
) -> None:
    """Before the decision nobody has changed; after it, all who are left have."""
    world.step(BOTH)
    faults.before_order(order, worker, lambda: world.cluster.end(worker))
    bad = math.nan if order is pb.Withdraw else 1.0
    left = "b" if worker == "w0" else "a"
    if order is pb.Prepare:
        with pytest.raises(WorkerLost, match=worker):
            world.step(BOTH)
    else:
        assert world.step({"a": (bad, 1), "b": ONES}).applied == (order is pb.Commit)
    moved = order is pb.Commit
    assert world.values() == {left: [-2.0, -2.0, 2.0] if moved else FIRST[left]}
    world.check_agreement(2 if moved else 1)
    assert [d.outcome for d in world.decisions()][1:] == {pb.Prepare: [], pb.Commit: ["commit"]}.get(order, ["abort"])


@pytest.mark.parametrize("worker", ["w0", "w1"])
def test_an_owner_that_is_lost_between_prepare_and_decision_does_not_stop_the_others(
    world: World, faults: Faults, worker: str, caplog: pytest.LogCaptureFixture
) -> None:
    faults.around_decision(lambda: world.cluster.end(worker), nothing)
    assert world.step(BOTH).applied
    left = "b" if worker == "w0" else "a"
    assert world.values() == {left: FIRST[left]}
    world.check_agreement(1)
    assert f"step 1 of optimizer 'sgd' is decided, but {worker} did not take it" in caplog.text


def test_a_decision_that_cannot_be_written_is_none(world: World, faults: Faults) -> None:
    world.step(BOTH)
    faults.around_decision(fail(JournalError("the disk is full")), nothing)
    with pytest.raises(JournalError, match="the disk is full"):
        world.step(BOTH)
    assert world.values() == FIRST
    world.check_agreement(1)
    world.step(BOTH)  # and the next attempt succeeds
    world.check_agreement(2)
    assert [(d.version, d.outcome) for d in world.decisions()] == [(1, "commit"), (2, "commit")]


def test_an_error_after_the_decision_was_written_leaves_owners_and_journal_agreed_in_the_end(
    world: World, faults: Faults
) -> None:
    faults.around_decision(nothing, fail(KeyError("a bug, say")))
    with pytest.raises(DistgradError, match="a bug, say"):
        world.step(BOTH)
    world.check_agreement(0)
    assert world.step({"a": (5, 5)}).applied
    world.check_agreement(1)
    assert world.cluster.coordinator.journal is not None
    latest = world.cluster.coordinator.journal.find("sgd", 1)
    assert latest is not None
    assert latest.norm == math.hypot(5, 5)


def test_when_nobody_can_say_what_the_journal_holds_nothing_is_withdrawn_and_no_step_taken(
    world: World, faults: Faults
) -> None:
    journal = world.cluster.coordinator.journal
    assert journal is not None

    def break_for_good() -> None:
        journal.close()
        raise JournalError("neither written nor taken back")

    faults.around_decision(break_for_good, nothing)
    with pytest.raises(JournalError, match="neither written"):
        world.step(BOTH)
    assert [owner.pinned for owner in world.owners()] == [True, True]
    with pytest.raises(JournalError, match="is closed"):
        world.step(BOTH)
    assert world.values() == {"a": [0, 0, 0], "b": [0, 0, 0]}


def test_an_owner_that_refuses_to_prepare_stops_the_step_everywhere(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = Ownership.prepare

    def refuse(self: Ownership, *args: Any) -> Any:
        if "b" in self.shards:
            raise ConfigError("not with me")
        return prepare(self, *args)

    monkeypatch.setattr(Ownership, "prepare", refuse)
    with pytest.raises(ConfigError, match="not with me"):
        world.step(BOTH)
    world.check_agreement(0)
    assert world.values() == {"a": [0, 0, 0], "b": [0, 0, 0]}


def test_owners_refuse_a_coordinator_that_another_has_replaced(world: World) -> None:
    for owner in world.owners():
        owner.check_term(2)
    with pytest.raises(PermissionDenied, match="a coordinator of term 1 came after one of term 2"):
        world.step(BOTH)
    assert world.values() == {"a": [0, 0, 0], "b": [0, 0, 0]}
    assert world.decisions() == []


def test_a_context_that_is_left_before_its_step_is_refused_by_all(world: World) -> None:
    with world.client.context() as ctx:
        ctx.backward(world.shards["a"].dot(np.ones(2)))
    with pytest.raises(ContextError, match="has released its gradients; call step\\(\\) inside its `with` block"):
        world.optimizer.step(ctx)
    world.check_agreement(0)


# ---- any sequence of steps and faults --------------------------------------------------------------------------------

amounts = st.sampled_from([0.0, 1.0, -2.0, 0.5])
gradient = st.dictionaries(st.sampled_from(["a", "b"]), st.tuples(amounts, amounts), max_size=2)
moves = st.tuples(
    st.sampled_from(["none", "none", "nan", "unwritten", "refused", "lost before", "lost after"]),
    st.lists(gradient, min_size=1, max_size=2),
    st.sampled_from([0.0, 1.0]),
)
sequences = given(st.lists(moves, min_size=1, max_size=6), st.integers(0, 10_000))
Moves = list[tuple[str, list[dict[str, Any]], float]]


class Model:
    """What a world should hold, computed here."""

    def __init__(self) -> None:
        self.version = 0
        self.values = {"a": np.zeros(3), "b": np.zeros(3)}

    def step(self, gradients: list[dict[str, Any]], clip: float) -> None:
        totals: dict[str, Any] = {}
        for part in gradients:
            for name, x in part.items():
                totals[name] = totals.get(name, 0.0) + np.array(x)
                self.values[name][2] += 1
        norm = math.sqrt(math.fsum(float(x @ x) for x in totals.values()))
        factor = clip / norm if 0 < clip < norm else 1.0
        for name, total in totals.items():
            self.values[name][:2] -= total * factor
        self.version += 1


@settings(max_examples=8)
@sequences
def test_after_any_sequence_of_steps_and_faults_all_owners_are_where_the_model_is(moves: Moves, seed: int) -> None:
    take(moves, seed)


@pytest.mark.slow
@settings(max_examples=60)
@sequences
def test_after_many_sequences_of_steps_and_faults_all_owners_are_where_the_model_is(moves: Moves, seed: int) -> None:
    take(moves, seed)


def take(moves: Moves, seed: int) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        folder = Path(directory)
        with cluster(PROGRAMS, "w0", "w1", journal=folder / "journal", seed=seed) as (made, client):
            world, model = World(made, client), Model()
            for fault, gradients, clip in moves:
                client.save(str(folder))
                with patch.context() as once:
                    taken = _step_with(fault, world, Faults(world, once), once, gradients, clip)
                if taken:
                    model.step(gradients, clip)
                if len(made.workers) < 2:
                    made.start("w1")
                    client.wait_for_workers(["w1"], 20)
                    client.restore(str(folder))
                    if taken:  # the step was decided, but its owner was lost: it is taken again
                        world.step(*gradients, clip_norm=clip)
                world.check_agreement(model.version)
                for name, value in world.values().items():
                    assert value == pytest.approx(model.values[name].tolist(), abs=1e-12)
            decided = [d.version for d in world.decisions() if d.outcome == "commit"]
            assert max(decided, default=0) in (0, model.version)  # 0: a checkpoint has made them history


def _step_with(
    fault: str,
    world: World,
    faults: Faults,
    patch: pytest.MonkeyPatch,
    gradients: list[dict[str, Any]],
    clip: float,
) -> bool:
    """A step in which something goes wrong. Returns whether it is to be taken."""
    match fault:
        case "nan":
            return world.step(*gradients, {"b": (math.nan, 0)}, clip_norm=clip).applied
        case "unwritten":
            faults.around_decision(fail(JournalError("the disk is full")), nothing)
        case "refused":
            patch.setattr(Ownership, "prepare", lambda *_: fail(ConfigError("no"))())
        case "lost before":
            faults.before_order(pb.Prepare, "w1", lambda: world.cluster.end("w1"))
        case "lost after":
            faults.before_order(pb.Commit, "w1", lambda: world.cluster.end("w1"))
    if fault in ("unwritten", "refused", "lost before"):
        with pytest.raises((JournalError, ConfigError, WorkerLost)):
            world.step(*gradients, clip_norm=clip)
        return False
    assert world.step(*gradients, clip_norm=clip).applied
    return True


# ---- steps taken again -----------------------------------------------------------------------------------------------


def test_a_step_taken_again_is_decided_under_the_higher_term_and_compared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal, checkpoints = tmp_path / "journal", str(tmp_path / "checkpoints")
    with cluster(PROGRAMS, "w0", "w1", journal=journal) as (made, client):
        world = World(made, client)
        world.step(BOTH)
        client.save(checkpoints)
        world.step({"a": (1, 2)}, clip_norm=1.0)
        world.step({"b": (3, 4)})
    with cluster(PROGRAMS, "w0", "w1", journal=journal) as (made, client), caplog.at_level(logging.WARNING):
        world = World(made, client)
        client.restore(checkpoints)
        world.check_agreement(1)
        assert world.values() == FIRST
        world.step({"a": (1, 2)}, clip_norm=1.0)
        assert not caplog.records
        world.step({"b": (3, 5)})
        (warning,) = caplog.messages
        assert warning.startswith("step 3 of optimizer 'sgd', taken again from a checkpoint, came out differently: ")
        assert f"norm {math.hypot(3, 5)!r}" in warning
        assert "before, commit with 5.0, 1.0 and 1.0" in warning
        world.step(BOTH)
        assert len(caplog.records) == 1
        assert [(d.version, d.term) for d in world.decisions()] == [(1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (4, 2)]


def test_a_run_that_begins_anew_is_not_compared_with_what_the_journal_says_of_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for gradient in (ONES, (5, 5)):
        with cluster(PROGRAMS, "w0", "w1", journal=tmp_path / "journal") as (made, client):
            World(made, client).step({"a": gradient})
    assert not caplog.records


def test_steps_that_two_checkpoints_hold_are_dropped_from_the_journal(world: World, tmp_path: Path) -> None:
    kept = []
    for _ in range(3):
        world.step(BOTH)
        world.step(BOTH)
        world.client.save(str(tmp_path / "checkpoints"))
        kept.append([d.version for d in world.decisions()])
    assert kept == [[1, 2], [3, 4], [5, 6]]


def test_without_a_journal_decisions_end_with_the_coordinator() -> None:
    with cluster(PROGRAMS, "w0", "w1") as (made, client):
        world = World(made, client)
        assert world.step(BOTH).applied
        assert made.coordinator.journal is None
        world.check_agreement(1)


def test_what_updates_there_are_shows(world: World) -> None:
    assert repr(world.updates) == "<Updates of term 1: {'sgd': 0}>"
    assert repr(world.owners()[0]) == "<Ownership of a under sgd at version 0>"
