"""checkpoint: the same derivatives of every order, with the inputs alone kept."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd import tape
from distgrad.autograd.backward import gradients
from distgrad.autograd.tape import Frame
from distgrad.errors import FreedGraphError, GradientError, InPlaceError

ops = dg.ops
X = np.array([0.3, -0.7, 1.1])


def block(x: Any) -> Any:
    return ops.sin(x) * ops.exp(-x * x)


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: dg.grad(lambda x: ops.sum(f(x) * x)),
        lambda f: dg.hessian(lambda x: ops.sum(f(x) * x)),
        lambda f: dg.jacobian(dg.grad(lambda x: ops.sum(f(x) * x)), mode="reverse"),
        lambda f: dg.jacobian(dg.hessian(lambda x: ops.sum(f(x) * x)), mode="reverse"),
        lambda f: dg.vmap(dg.grad(f)),
        lambda f: dg.jacobian(lambda x: f(f(x))),
    ],
)
def test_derivatives_of_every_order_are_the_same(transform: Any) -> None:
    np.testing.assert_allclose(transform(dg.checkpoint(block))(X), transform(block)(X), rtol=1e-13, atol=1e-15)


def test_what_the_function_closes_over_receives_its_gradient() -> None:
    found = []
    for wrap in (lambda f: f, dg.checkpoint):
        w, v = (dg.tensor(X, requires_grad=True) for _ in range(2))
        hidden = ops.sin(w)
        # `hidden` and `w` are both used inside, and one comes from the other.
        f = wrap(lambda x, k: (ops.exp(x * hidden) * w * k, {"y": x + 1.0}))  # noqa: B023
        a, b = f(v, k=3.0)
        loss = ops.sum(a * b["y"])
        first = gradients([loss], None, [v, w], create_graph=True)
        second = gradients([ops.sum(first[0] * first[1])], None, [v, w])
        found.append([g.numpy() for g in first] + second)
    for plain, checkpointed in zip(*found, strict=True):
        np.testing.assert_allclose(checkpointed, plain, rtol=1e-13)


def test_intermediate_values_are_not_kept() -> None:
    class Watched(np.ndarray):
        """An array that can be referred to weakly."""

    kept: list[weakref.ref[Any]] = []

    def f(x: Any) -> Any:
        h = x * 2.0
        h.data = h.data.view(Watched)
        kept.append(weakref.ref(h.data))
        return ops.sin(h) * h

    x = dg.tensor(X, requires_grad=True)
    y = dg.checkpoint(f)(x)
    gc.collect()
    assert kept[0]() is None
    y.sum().backward()
    assert len(kept) == 2
    np.testing.assert_allclose(x.grad, 2 * np.sin(2 * X) + 4 * X * np.cos(2 * X), rtol=1e-14)


def test_an_unused_result_costs_no_gradient_and_a_constant_stays_one() -> None:
    x = dg.tensor(X, requires_grad=True)
    used, unused, constant = dg.checkpoint(lambda x: (x * 2, x * 3, 7.0))(x)
    assert unused.requires_grad
    assert constant == 7.0
    used.sum().backward()
    np.testing.assert_array_equal(x.grad, [2.0, 2.0, 2.0])


def test_dropout_draws_the_same_mask_again() -> None:
    def f(x: Any) -> Any:
        return ops.dropout(x, key=dg.nn.random.next_key(), rate=0.5)

    x = dg.tensor(np.ones(100), requires_grad=True)
    with dg.nn.random.seeded(3):
        y = dg.checkpoint(f)(x)
        after = dg.nn.random.next_key()
        y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.numpy())
    with dg.nn.random.seeded(3):
        np.testing.assert_array_equal(f(x).numpy(), y.numpy())
        assert dg.nn.random.next_key() == after


def test_checkpoints_nest() -> None:
    inner = dg.checkpoint(block)
    nested = dg.checkpoint(lambda x: ops.sum(inner(x) * x))
    np.testing.assert_allclose(dg.grad(nested)(X), dg.grad(lambda x: ops.sum(block(x) * x))(X), rtol=1e-14)


def test_a_second_pass_needs_retain_graph() -> None:
    x = dg.tensor(X, requires_grad=True)
    y = ops.sum(dg.checkpoint(block)(x))
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(FreedGraphError, match="retain_graph=True"):
        y.backward()


def test_writing_to_an_input_is_noticed() -> None:
    x = dg.tensor(X, requires_grad=True)
    y = ops.sum(dg.checkpoint(block)(x))
    with dg.no_grad():
        x[0] = 9.0
    with pytest.raises(InPlaceError):
        y.backward()


@pytest.mark.parametrize("argument", [True, False])
def test_a_variable_that_is_given_new_data_is_noticed(argument: bool) -> None:
    w = dg.nn.Parameter(X)
    f = dg.checkpoint(lambda *given: ops.sin(given[0] if given else w))
    y, plain = f(*[w] * argument), ops.sin(w)
    w.set_data(X * 2.0)
    plain.sum().backward()
    np.testing.assert_array_equal(w.grad, np.cos(X))
    with pytest.raises(InPlaceError, match="do the backward pass first"):
        y.sum().backward()
    f(*[w] * argument).sum().backward()


def test_a_function_that_computes_something_else_the_second_time_is_noticed() -> None:
    sizes = iter([3, 2])
    x = dg.tensor(X, requires_grad=True)
    y = ops.sum(dg.checkpoint(lambda x: x[: next(sizes)])(x))
    with pytest.raises(GradientError, match="returned other shapes"):
        y.backward()


def test_what_is_no_recorded_tensor_comes_out_as_it_is() -> None:
    array = np.arange(3)
    y, *rest = dg.checkpoint(lambda x: (x * 2.0, array, "text", None, {"n": 3}, dg.tensor(X)))(
        dg.tensor(X, requires_grad=True)
    )
    assert rest[0] is array
    assert rest[1:4] == ["text", None, {"n": 3}]
    assert not rest[4].requires_grad
    assert y.requires_grad


def test_calls_of_shards_are_numbered_as_without_a_checkpoint() -> None:
    frame = Frame((4,))
    with tape.entered(frame=frame):
        numbers = [frame.next_call()]
        dg.checkpoint(lambda x: numbers.append(tape.mode.get().frame.next_call()) or x)(
            dg.tensor(X, requires_grad=True)
        )
        numbers.append(frame.next_call())
    assert numbers == [0, 1, 2]


def test_a_function_that_calls_shards_the_second_time_only_is_noticed() -> None:
    runs: list[bool] = []

    def f(x: Any) -> Any:
        recomputed = tape.mode.get().recomputed
        assert recomputed is not None
        recomputed.calls_shards = bool(runs)
        runs.append(True)
        return x * 2.0

    y = dg.checkpoint(f)(dg.tensor(X, requires_grad=True))
    with pytest.raises(GradientError, match="called a shard when it ran again"):
        y.sum().backward()
