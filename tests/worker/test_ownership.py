"""The two halves of an update at one owner."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import distgrad as dg
from distgrad import nn
from distgrad.autograd.rows import Rows
from distgrad.errors import ConfigError, ContextError, DistgradError, PermissionDenied
from distgrad.graph.share import Share
from distgrad.nn import BufferUpdate
from distgrad.optim import SGD, Adam, Optimizer
from distgrad.wire import pb
from distgrad.worker.ownership import Ownership

LR = 0.1


class Layer(nn.Module):
    def __init__(self, dtype: str = "float64") -> None:
        self.weight = nn.Parameter(np.arange(6.0).reshape(2, 3).astype(dtype))
        self.bias = nn.Parameter(np.ones(2, dtype))
        self.frozen = nn.Parameter(np.full(2, 5.0), requires_grad=False)
        self.mean = nn.Buffer(np.zeros(2))
        self.count = nn.Buffer(np.zeros(1))


def owner_of(optimizer: Optimizer, version: int = 0, term: int = 1, **shards: nn.Module) -> Ownership:
    owner = Ownership("adam", optimizer, version, term)
    for name, shard in shards.items():
        owner.adopt(name, shard)
    return owner


def share(*gradients: tuple[nn.Parameter, Any]) -> Share:
    """A context in which parameters have gathered these gradients."""
    made = Share(pb.ContextId(id="c"))
    made.merge((0,), {parameter.node: gradient for parameter, gradient in gradients if parameter.node is not None})
    return made


def gradients_of(layer: Layer, weight: Any = None, bias: Any = None) -> Share:
    found = ((layer.weight, weight), (layer.bias, bias))
    return share(*(pair for pair in found if pair[1] is not None))


def snapshot(owner: Ownership) -> dict[str, Any]:
    """All that an update may change, by identity: commits swap references."""
    parts = {**owner.state, "version": owner.version}
    for name, shard in owner.shards.items():
        parts |= {f"{name}/{key}": array for key, array in shard.state_dict().items()}
    return parts


def unchanged(before: dict[str, Any], owner: Ownership) -> bool:
    after = snapshot(owner)
    return before.keys() == after.keys() and all(before[key] is after[key] for key in before)


# ---- prepare and commit ----------------------------------------------------------------------------------------------


def test_prepare_changes_nothing_and_answers_with_norms_by_name() -> None:
    layer, other = Layer(), Layer()
    owner = owner_of(Adam(LR), b=other, a=layer)
    before = snapshot(owner)
    norms = owner.prepare(1, 1, [gradients_of(layer, np.full((2, 3), 2.0), np.array([3.0, -4.0]))])
    assert [(n.parameter, n.norm, n.finite) for n in norms] == [("a/bias", 5.0, True), ("a/weight", 24**0.5, True)]
    assert unchanged(before, owner)
    assert owner.pinned


@pytest.mark.parametrize("optimizer", [SGD(LR), SGD(LR, momentum=0.9), Adam(LR)], ids=repr)
def test_an_update_is_what_the_optimizer_alone_would_do(optimizer: Optimizer, rng: np.random.Generator) -> None:
    layer, alone = Layer(), Layer()
    owner, bound = owner_of(optimizer, a=layer), optimizer.bind(alone)
    for version in range(1, 4):
        weight, bias = rng.standard_normal((2, 3)), rng.standard_normal(2)
        owner.prepare(1, version, [gradients_of(layer, weight, bias)])
        owner.commit(1, version, 1.0, LR)
        alone.weight.grad, alone.bias.grad = weight, bias
        bound.step()
        assert np.array_equal(layer.weight.data, alone.weight.data)
        assert np.array_equal(layer.bias.data, alone.bias.data)
    assert owner.version == 3


def test_a_commit_swaps_arrays_and_never_writes_into_them() -> None:
    layer = Layer()
    owner = owner_of(Adam(LR), a=layer)
    held = {name: (array, array.copy()) for name, array in snapshot(owner).items() if name != "version"}
    owner.prepare(1, 1, [gradients_of(layer, np.ones((2, 3)), np.ones(2))])
    owner.commit(1, 1, 1.0, LR)
    for name, (array, copy) in held.items():
        assert np.array_equal(array, copy), name
    assert layer.weight.data is not held["a/weight"][0]


def test_without_a_gradient_parameter_and_state_rest_and_the_version_advances() -> None:
    layer = Layer()
    owner = owner_of(Adam(LR), a=layer)
    before = snapshot(owner)
    assert [n.parameter for n in owner.prepare(1, 1, [gradients_of(layer, weight=np.ones((2, 3)))])] == ["a/weight"]
    owner.commit(1, 1, 1.0, LR)
    after = snapshot(owner)
    moved = {key for key in before if before[key] is not after[key]}
    assert moved == {"a/weight", "a/weight/mean", "a/weight/square", "a/weight/steps", "version"}
    assert owner.prepare(1, 2, []) == []
    owner.commit(1, 2, 1.0, LR)
    assert {key for key in after if after[key] is not snapshot(owner)[key]} == {"version"}
    assert owner.version == 2


def test_frozen_parameters_are_not_owned() -> None:
    owner = owner_of(SGD(LR, momentum=0.9), a=Layer())
    assert set(owner.state) == {"a/weight/momentum", "a/bias/momentum"}


def test_several_contexts_are_summed_in_the_order_given() -> None:
    layer = Layer("float32")
    parts = [np.full((2, 3), x, np.float32) for x in (1e8, 1.0, -1e8)]
    shares = [gradients_of(layer, part) for part in parts]
    sums = []
    for order in ((0, 1, 2), (0, 2, 1)):
        fresh = Layer("float32")
        owner = owner_of(SGD(1.0), a=fresh)
        given_shares = [share((fresh.weight, shares[k].gradient(layer.weight.node))) for k in order]
        owner.prepare(1, 1, given_shares)
        owner.commit(1, 1, 1.0, 1.0)
        sums.append(Layer("float32").weight.data - fresh.weight.data)
    # (1e8 + 1) - 1e8 loses the one; (1e8 - 1e8) + 1 keeps it.
    assert np.array_equal(sums[0], np.zeros((2, 3)))
    assert np.array_equal(sums[1], np.ones((2, 3)))


def test_contexts_that_did_not_reach_a_parameter_are_passed_over() -> None:
    layer = Layer()
    owner = owner_of(SGD(1.0), a=layer)
    gradient = np.arange(2.0)
    owner.prepare(1, 1, [share(), gradients_of(layer, bias=gradient), share(), gradients_of(layer, bias=gradient)])
    owner.commit(1, 1, 1.0, 1.0)
    assert np.array_equal(layer.bias.data, 1.0 - 2 * gradient)


def test_gradients_that_are_tensors_count_as_their_arrays() -> None:
    layer = Layer()
    owner = owner_of(SGD(1.0), a=layer)
    owner.prepare(1, 1, [gradients_of(layer, bias=dg.tensor(np.ones(2)))])
    owner.commit(1, 1, 1.0, 1.0)
    assert type(layer.bias.data) is np.ndarray
    assert np.array_equal(layer.bias.data, np.zeros(2))


def test_row_sparse_gradients_move_their_rows_alone_and_are_clipped() -> None:
    layer = Layer()
    owner = owner_of(SGD(LR, momentum=0.9), a=layer)
    rows = Rows(np.array([1]), np.array([[3.0, 0.0, 4.0]]), 2)
    (norm,) = owner.prepare(1, 1, [gradients_of(layer, weight=rows)])
    assert norm.norm == 5.0
    before = layer.weight.data
    owner.commit(1, 1, 0.5, LR)
    assert np.array_equal(layer.weight.data[0], before[0])
    assert np.array_equal(owner.state["a/weight/momentum"], [[0, 0, 0], [1.5, 0, 2.0]])


def test_rows_and_dense_gradients_of_several_contexts_add_up() -> None:
    layer = Layer()
    owner = owner_of(SGD(1.0), a=layer)
    rows = Rows(np.array([0]), np.ones((1, 3)), 2)
    dense = np.full((2, 3), 10.0)
    owner.prepare(1, 1, [gradients_of(layer, weight=x) for x in (rows, rows, dense)])
    owner.commit(1, 1, 1.0, 1.0)
    assert np.array_equal(layer.weight.data, Layer().weight.data - [[12.0] * 3, [10.0] * 3])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
def test_a_clip_factor_scales_in_the_dtype_of_the_gradient(dtype: str) -> None:
    layer = Layer(dtype)
    owner = owner_of(SGD(1.0), a=layer)
    gradient = np.full(2, 3.0, dtype)
    owner.prepare(1, 1, [gradients_of(layer, bias=gradient)])
    owner.commit(1, 1, 1 / 3, 1.0)
    assert layer.bias.dtype == dtype
    assert np.array_equal(layer.bias.data, np.ones(2, dtype) - gradient * np.asarray(1 / 3, gradient.real.dtype))


@given(values=st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=20))
def test_norms_are_taken_in_float64_and_say_whether_they_are_finite(values: list[float]) -> None:
    layer = nn.Linear(len(values), 1, bias=False)
    owner = owner_of(SGD(LR), a=layer)
    gradient = np.array([values], np.float32)
    (norm,) = owner.prepare(1, 1, [share((layer.weight, gradient))])
    assert norm.finite == bool(np.isfinite(gradient).all())
    if norm.finite:
        exact = math.sqrt(math.fsum(float(x) ** 2 for x in gradient[0]))
        assert norm.norm == pytest.approx(exact, rel=1e-14)


def test_a_gradient_of_another_shape_is_refused_before_anything_is_pinned() -> None:
    layer = Layer()
    owner = owner_of(SGD(LR), a=layer)
    with pytest.raises(ConfigError, match=r"gradient of shape \(3,\) does not belong to a parameter of shape \(2,\)"):
        owner.prepare(1, 1, [gradients_of(layer, bias=np.ones(3))])
    assert not owner.pinned


# ---- buffers ---------------------------------------------------------------------------------------------------------


def test_staged_buffers_are_blended_in_program_order_once() -> None:
    layer, stranger = Layer(), nn.Buffer(np.zeros(2))
    owner = owner_of(SGD(LR), a=layer)
    first, second = share(), share()
    first.staged[1,] = [BufferUpdate(layer.mean, 0.5, 8.0), BufferUpdate(stranger, 0.0, 1.0)]
    first.staged[0, 3] = [BufferUpdate(layer.mean, 0.0, 4.0), BufferUpdate(layer.count, 1.0, 1.0)]
    second.staged[0,] = [BufferUpdate(layer.mean, 0.5, 1.0), BufferUpdate(layer.count, 1.0, 1.0)]
    owner.prepare(1, 1, [first, second])
    assert layer.mean.data.tolist() == [0, 0]
    for _ in range(2):
        owner.commit(1, 1, 1.0, LR)
        # ((0 · 0 + 4) / 2 + 8) / 2 + 1
        assert layer.mean.data.tolist() == [6, 6]
        assert layer.count.data.tolist() == [2]
    assert stranger.data.tolist() == [0, 0]


def test_staged_buffers_are_dropped_with_an_update_that_is_withdrawn() -> None:
    layer = Layer()
    owner = owner_of(SGD(LR), a=layer)
    staging = share()
    staging.staged[0,] = [BufferUpdate(layer.mean, 0.0, 4.0)]
    owner.prepare(1, 1, [staging])
    owner.withdraw(1, 1)
    owner.prepare(1, 1, [])
    owner.commit(1, 1, 1.0, LR)
    assert layer.mean.data.tolist() == [0, 0]


def test_a_commit_that_cannot_be_applied_changes_nothing() -> None:
    layer = Layer()
    owner = owner_of(SGD(LR), a=layer)
    staging = gradients_of(layer, bias=np.ones(2))
    staging.staged[0,] = [BufferUpdate(layer.mean, 1.0, np.ones((7, 7)))]
    owner.prepare(1, 1, [staging])
    before = snapshot(owner)
    with pytest.raises(ValueError, match="broadcast"):
        owner.commit(1, 1, 1.0, LR)
    assert unchanged(before, owner)


# ---- versions and terms ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 3, 4, 6, 99])
def test_only_the_next_version_can_be_prepared(version: int) -> None:
    owner = owner_of(SGD(LR), version=4, a=Layer())
    with pytest.raises(ContextError, match=f"'adam' is at version 4 here and cannot prepare {version}"):
        owner.prepare(1, version, [])


@pytest.mark.parametrize("version", [5, 6])
def test_what_was_not_prepared_cannot_be_committed(version: int) -> None:
    owner = owner_of(SGD(LR), version=4, a=Layer())
    with pytest.raises(ContextError, match=f"'adam' is at version 4 and has not prepared {version}"):
        owner.commit(1, version, 1.0, LR)


def test_an_earlier_term_is_refused_by_every_half_and_a_later_one_takes_over() -> None:
    layer = Layer()
    owner = owner_of(SGD(1.0), term=5, a=layer)
    owner.prepare(5, 1, [gradients_of(layer, bias=np.ones(2))])
    for refused in (
        lambda: owner.prepare(4, 1, []),
        lambda: owner.commit(4, 1, 1.0, 1.0),
        lambda: owner.withdraw(4, 1),
        lambda: owner.check_term(4),
    ):
        with pytest.raises(PermissionDenied, match="a coordinator of term 4 came after one of term 5"):
            refused()
    assert owner.pinned
    owner.prepare(6, 1, [])  # pins anew
    with pytest.raises(PermissionDenied):
        owner.commit(5, 1, 1.0, 1.0)
    owner.commit(6, 1, 1.0, 1.0)
    assert layer.bias.data.tolist() == [1, 1]


def test_an_owner_that_moves_to_another_version_drops_what_was_pinned() -> None:
    owner = owner_of(SGD(LR), version=4, a=Layer())
    owner.prepare(1, 5, [])
    owner.move_to(2)
    assert not owner.pinned
    with pytest.raises(ContextError):
        owner.commit(1, 5, 1.0, LR)
    owner.prepare(1, 3, [])
    owner.commit(1, 3, 1.0, LR)
    assert owner.version == 3


def test_a_shard_that_is_adopted_again_keeps_its_state() -> None:
    layer = Layer()
    owner = owner_of(Adam(LR), a=layer)
    owner.prepare(1, 1, [gradients_of(layer, bias=np.ones(2))])
    owner.commit(1, 1, 1.0, LR)
    before = snapshot(owner)
    owner.adopt("a", layer)
    assert unchanged(before, owner)


def test_the_state_of_a_shard_is_told_from_that_of_one_whose_name_begins_alike() -> None:
    owner = owner_of(SGD(LR, momentum=0.9), a=Layer(), ab=Layer())
    assert set(owner.state_of("a")) == {"weight/momentum", "bias/momentum"}
    owner.load("a", {"bias/momentum": np.full(2, 3.0), "weight/momentum": np.ones((2, 3))})
    assert owner.state_of("a")["bias/momentum"].tolist() == [3, 3]
    assert owner.state_of("ab")["bias/momentum"].tolist() == [0, 0]


# ---- waiting for a version -------------------------------------------------------------------------------------------


def test_who_waits_for_a_version_goes_on_when_it_is_reached() -> None:
    owner = owner_of(SGD(LR), a=Layer())
    assert owner.reached(0) is None
    one, again, two = owner.reached(1), owner.reached(1), owner.reached(2)
    assert one is again is not None
    assert two is not None
    for version in (1, 2):
        owner.prepare(1, version, [])
        owner.commit(1, version, 1.0, LR)
        assert (one.done, two.done) == (True, version == 2)
    assert (one.error, two.error) == (None, None)


def test_a_version_that_was_passed_is_a_clear_error() -> None:
    owner = owner_of(SGD(LR), version=3, a=Layer())
    with pytest.raises(ContextError, match="began at version 2 of optimizer 'adam', which is at 3 now; make the calls"):
        owner.reached(2)


@pytest.mark.parametrize("version", [0, 7, 9])
def test_who_waits_for_a_version_of_a_course_that_is_given_up_hears_of_it(version: int) -> None:
    owner = owner_of(SGD(LR), version=3, a=Layer())
    waits = owner.reached(7)
    assert waits is not None
    owner.move_to(version)
    with pytest.raises(ContextError, match=f"at version 7 of optimizer 'adam', which was restored to {version}"):
        waits.result(timeout=0)


# ---- against a model -------------------------------------------------------------------------------------------------


class Model:
    """What an owner should do, without arrays: a version, a term, a value, and what is pinned."""

    def __init__(self) -> None:
        self.version, self.term, self.value = 0, 1, 0.0
        self.pinned: tuple[int, float] | None = None

    def prepare(self, term: int, version: int, gradient: float) -> str:
        if (refused := self._term(term)) or version != self.version + 1:
            return refused or "ContextError"
        self.pinned = version, gradient
        return ""

    def commit(self, term: int, version: int) -> str:
        if refused := self._term(term):
            return refused
        if version <= self.version:
            return ""
        if self.pinned is None or self.pinned[0] != version:
            return "ContextError"
        self.version, self.value, self.pinned = version, self.value - self.pinned[1], None
        return ""

    def withdraw(self, term: int, version: int) -> str:
        if refused := self._term(term):
            return refused
        if self.pinned is not None and self.pinned[0] == version:
            self.pinned = None
        return ""

    def _term(self, term: int) -> str:
        if term < self.term:
            return "PermissionDenied"
        self.term = term
        return ""


terms = st.sampled_from([1, 1, 1, 2, 3])
versions = st.integers(0, 4)
orders = st.one_of(
    st.tuples(st.just("prepare"), terms, versions, st.sampled_from([1.0, 2.0, 4.0])),
    st.tuples(st.just("commit"), terms, versions),
    st.tuples(st.just("withdraw"), terms, versions),
)


@given(st.lists(orders, max_size=40))
def test_whatever_orders_come_an_owner_does_what_its_model_does(orders: list[tuple[Any, ...]]) -> None:
    layer, model = nn.Linear(1, 1, bias=False, dtype="float64"), Model()
    layer.weight.set_data(np.zeros((1, 1)))
    owner = owner_of(SGD(1.0), a=layer)
    for name, term, version, *gradient in orders:
        expected = getattr(model, name)(term, version, *gradient)
        found = ""
        try:
            if name == "prepare":
                owner.prepare(term, version, [share((layer.weight, np.full((1, 1), gradient[0])))])
            elif name == "commit":
                owner.commit(term, version, 1.0, 1.0)
            else:
                owner.withdraw(term, version)
        except DistgradError as error:
            found = type(error).__name__
        assert found == expected
        assert (owner.version, owner.term, owner.pinned) == (model.version, model.term, model.pinned is not None)
        assert layer.weight.data.item() == model.value
