"""The shards of a worker: how they are built and owned, and what of their state can be replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distgrad.errors import ConfigError, ContextError, PermissionDenied, ProgramError
from distgrad.wire import pb
from distgrad.worker.host import Host, state_kinds
from distgrad.worker.programs import Programs

PROGRAMS = Path(__file__).parent / "programs"
LAYER = "parts.py:Layer"
SIZES = {"inputs": 3, "outputs": 2}


def host(worker: str = "w0") -> Host:
    return Host(Programs(PROGRAMS), worker)


def adopt(host: Host, *shards: str, optimizer: str = "adam", kind: str = "Adam", lr: float = 0.1, **more: Any) -> None:
    message = pb.Adopt(optimizer=optimizer, shards=shards, kind=kind, version=more.get("version", 0), term=1)
    host.adopt(message, {"lr": lr})


# ---- building --------------------------------------------------------------------------------------------------------


def test_initial_weights_depend_on_seed_and_name_and_not_on_worker_order_or_neighbours() -> None:
    def weights(host: Host, name: str, seed: int) -> Any:
        return host.load(name, LAYER, SIZES, seed).shard.state_dict()["linear.weight"]

    first, second = host("w0"), host("w1")
    second.load("other", LAYER, SIZES, 1)
    reference = weights(first, "a", 1)
    assert np.array_equal(reference, weights(second, "a", 1))
    assert not np.array_equal(reference, weights(first, "b", 1))
    assert not np.array_equal(reference, weights(host(), "a", 2))


def test_a_name_is_given_to_one_shard() -> None:
    worker = host()
    worker.load("a", LAYER, SIZES, 0)
    with pytest.raises(ConfigError, match="another shard 'a' lives on w0 already"):
        worker.load("a", LAYER, SIZES, 1)


def test_a_shard_built_in_the_same_way_again_is_the_one_there_is_unless_it_is_wanted_anew() -> None:
    worker = host()
    first = worker.load("a", LAYER, SIZES, 0)
    assert worker.load("a", LAYER, dict(SIZES), 0) is first
    assert worker.load("a", LAYER, SIZES, 0, anew=True) is not first
    assert list(worker.shards) == ["a"]


@pytest.mark.parametrize(
    ("program", "config", "message"),
    [
        (LAYER, {"inputs": 3}, r"shard 'a': parts.py:Layer\(inputs=3\) failed on w0: TypeError: .*'outputs'"),
        (LAYER, {**SIZES, "width": 4}, r"failed on w0: TypeError: .*unexpected keyword argument 'width'"),
        ("parts.py:Failing", {}, r"parts.py:Failing\(\) failed on w0: ValueError: this one is never made"),
        (
            LAYER,
            {"inputs": np.zeros(10_000), "outputs": 1},
            r"Layer\(inputs=array\(\[.{0,40}\.\.\..{0,60}\), outp",
        ),
        ("parts.py:Data", {}, "parts.py:Data is not a subclass of dg.Shard, but the class Data"),
        ("absent.py:Layer", {}, "there is no program 'absent.py'"),
    ],
)
def test_a_shard_that_cannot_be_made_says_why_and_leaves_nothing(program: str, config: Any, message: str) -> None:
    worker = host()
    with pytest.raises(ProgramError, match=message):
        worker.load("a", program, config, 0)
    assert not worker.shards


def test_what_is_not_there_is_named_with_what_is() -> None:
    worker = host()
    worker.load("a", LAYER, SIZES, 0)
    worker.load("b", LAYER, SIZES, 0)
    with pytest.raises(ProgramError, match="there is no shard 'c' on w0; there are a, b"):
        worker.hosted("c")
    with pytest.raises(ContextError, match="w0 owns no parameters under optimizer 'adam'"):
        worker.owner("adam")


# ---- what may be called ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["secret", "_hidden", "linear", "__init__", "state_dict", "absent"])
def test_only_remote_methods_may_be_called(method: str) -> None:
    worker = host()
    worker.load("a", LAYER, SIZES, 0)
    with pytest.raises(ProgramError, match=f"a.{method} may not be called: .* methods both, error, fail, f"):
        worker.resolve(pb.Call(shard="a", method=method))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("parts.py:unmarked", "parts.py:unmarked may not be called"),
        ("parts.py:Layer", "parts.py:Layer may not be called"),
        ("os.py:system", "there is no program 'os.py'"),
        ("double", "'double' does not name a program"),
    ],
)
def test_only_marked_functions_of_programs_may_be_called(method: str, message: str) -> None:
    function = host().resolve(pb.Call(method=method))
    assert callable(function)
    with pytest.raises(ProgramError, match=message):
        function(3.0)


# ---- owners ----------------------------------------------------------------------------------------------------------


def test_shards_are_put_under_an_optimizer_all_or_none() -> None:
    worker = host()
    for name in ("a", "b", "c"):
        worker.load(name, LAYER, SIZES, 0)
    adopt(worker, "a", "b")
    before = worker.owner("adam")
    adopt(worker, "a", "b")  # again: nothing happens
    assert worker.owner("adam") is before
    with pytest.raises(ConfigError, match="shard 'b' is under optimizer 'adam' already"):
        adopt(worker, "c", "b", optimizer="sgd")
    with pytest.raises(ProgramError, match="there is no shard 'd'"):
        adopt(worker, "c", "d", optimizer="sgd")
    assert list(worker.owners) == ["adam"]
    assert worker.hosted("c").owner is None


@pytest.mark.parametrize("other", [{"lr": 0.2}, {"kind": "AdamW"}])
def test_an_optimizer_has_one_setting(other: dict[str, Any]) -> None:
    worker = host()
    worker.load("a", LAYER, SIZES, 0)
    adopt(worker, "a")
    with pytest.raises(ConfigError, match=r"optimizer 'adam' is Adam\(lr=0.1.* on w0, not "):
        adopt(worker, "a", **other)


def test_a_coordinator_that_was_replaced_puts_nothing_under_optimizers() -> None:
    worker = host()
    worker.load("a", LAYER, SIZES, 0)
    adopt(worker, "a")
    worker.owner("adam").check_term(2)
    with pytest.raises(PermissionDenied, match="term 1 came after one of term 2"):
        adopt(worker, "a")


# ---- state -----------------------------------------------------------------------------------------------------------


def test_a_state_that_was_read_can_be_written_elsewhere() -> None:
    source, target = host(), host()
    source.load("a", LAYER, SIZES, 1)
    target.load("a", LAYER, SIZES, 2)
    adopt(source, "a", version=5)
    adopt(target, "a", version=2)
    state, version = source.state("a")
    assert version == 5
    target.check_state("a", state_kinds(state))
    target.load_state("a", state, version)
    copy, version = target.state("a")
    assert version == 5
    for part, arrays in state.items():
        for name, array in arrays.items():
            assert np.array_equal(array, copy[part][name])
            assert array is not copy[part][name]


def test_without_an_optimizers_state_that_one_and_the_version_stay() -> None:
    worker = host()
    worker.load("a", LAYER, SIZES, 1)
    adopt(worker, "a", version=5)
    before = dict(worker.owner("adam").state)
    weights = {"linear.weight": np.ones((2, 3)), "linear.bias": np.ones(2)}
    worker.load_state("a", {"parameters": weights, "buffers": {}})
    state, version = worker.state("a")
    assert version == 5
    assert np.array_equal(state["parameters"]["linear.bias"], np.ones(2))
    assert worker.owner("adam").state == before


def spoiled(state: dict[str, Any], part: str, name: str, value: Any) -> dict[str, Any]:
    arrays = {key: array for key, array in state[part].items() if key != name}
    return {**state, part: arrays if value is None else {**arrays, name: value}}


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("parameters", "linear.bias", None, "'parameters/linear.bias' is missing"),
        ("parameters", "linear.bais", np.ones(2), "'parameters/linear.bais' is not part of it"),
        ("parameters", "linear.bias", np.ones(3), r"'parameters/linear.bias' is float64\[3\], here it is float64\[2\]"),
        ("parameters", "linear.bias", np.ones(2, "f4"), r"is float32\[2\], here it is float64\[2\]"),
        ("buffers", "mean", np.ones(2), "'buffers/mean' is not part of it"),
        ("optimizer", "linear.bias/mean", None, "'optimizer/linear.bias/mean' is missing"),
        ("optimizer", "linear.bias/mean", np.ones((2, 1)), r"is float64\[2, 1\], here it is float64\[2\]"),
        ("optimizer", "linear.bias/momentum", np.ones(2), "'optimizer/linear.bias/momentum' is not part of it"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_whole(part: str, name: str, value: Any, message: str) -> None:
    worker = host()
    worker.load("a", LAYER, SIZES, 1)
    adopt(worker, "a", version=5)
    before, _ = worker.state("a")
    other = host()
    other.load("a", LAYER, SIZES, 2)
    adopt(other, "a")
    state = spoiled(other.state("a")[0], part, name, value)
    for refused in (
        lambda: worker.check_state("a", state_kinds(state)),
        lambda: worker.load_state("a", state, 7),
    ):
        with pytest.raises(ConfigError, match=f"the state does not fit shard 'a' on w0: .*{message}"):
            refused()
    after, version = worker.state("a")
    assert version == 5
    assert all(before[part][key] is after[part][key] for part in before for key in before[part])


def test_all_that_does_not_fit_is_said_at_once() -> None:
    worker = host()
    worker.load("a", LAYER, SIZES, 1)
    with pytest.raises(ConfigError) as refused:
        worker.check_state("a", {"parameters/linear.weight": ("float32", (3, 2)), "buffers/x": ("float64", ())})
    assert str(refused.value).count(";") == 2
