"""The backward pass: who contributes when does not matter, nothing recurses, nothing stays behind."""

from __future__ import annotations

import gc
import random
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd.backward import gradients, run_pass
from distgrad.autograd.engine import Pass
from distgrad.autograd.rows import Rows
from distgrad.autograd.tape import Frame, Leaf, Node
from distgrad.errors import FreedGraphError, GradientError, InPlaceError

ops = dg.ops


def variable(value: Any) -> dg.Tensor:
    return dg.tensor(value, requires_grad=True)


# ---- order -----------------------------------------------------------------------------------------------------------


def random_program(seed: int) -> tuple[list[dg.Tensor], dg.Tensor]:
    """Variables, and a result in which values are used many times and some not at all. Sums of float32 show their
    order.
    """
    rng = random.Random(seed)
    leaves = [variable(np.float32(rng.uniform(0.5, 1.5)) * np.ones(3, np.float32)) for _ in range(3)]
    values = list(leaves)
    for _ in range(rng.randint(5, 40)):
        x, y = rng.choice(values), rng.choice(values)
        operation = rng.choice(["add", "multiply", "sin", "split", "maximum", "unused"])
        if operation == "split":
            values.extend(ops.unstack(ops.stack([x, y, x * y]))[1:])
        elif operation == "sin":
            values.append(ops.sin(x))
        elif operation == "unused":
            ops.multiply(x, y)
        else:
            values.append(getattr(ops, operation)(x, y))
    return leaves, ops.sum(sum(values[1:], values[0]) * 0.1)


class Shuffled(Pass):
    """A pass to which gradients are delivered late and in any order, as by other processes."""

    def __init__(self, rng: random.Random, sink: Callable[[Node, Any], None], **settings: Any) -> None:
        super().__init__(sink, **settings)
        self._rng = rng
        self._held: list[tuple[Any, ...]] = []

    def deliver(self, *delivery: Any) -> None:
        self._held.append(delivery)

    def _contribute(self, node: Node, i: int, parent: Node, gradient: Any, shared: Any) -> None:
        pulled = node.vjp(i, gradient, shared, False)
        self.deliver(parent, (node, i), None if pulled is None else self._fit(parent, pulled))

    def run(self) -> None:
        while self._held or not self.idle:
            if self._held and (self.idle or self._rng.random() < 0.3):
                super().deliver(*self._held.pop(self._rng.randrange(len(self._held))))
            else:
                self.run_one()


@pytest.mark.parametrize("seed", range(25))
def test_deliveries_in_any_order_give_the_same_bits(seed: int) -> None:
    leaves, result = random_program(seed)
    result.backward(retain_graph=True)
    expected = [leaf.grad for leaf in leaves]
    assert any(g is not None for g in expected)
    for shuffle in range(4):
        found: dict[Node, Any] = {}
        shuffled = Shuffled(random.Random(shuffle), found.__setitem__, retain=True)
        shuffled.expect([(result.node, 0)])
        shuffled.seed(result.node, 0, np.ones((), np.float32))
        shuffled.run()
        assert shuffled.waiting == 0
        for leaf, e in zip(leaves, expected, strict=True):
            g = found.get(leaf.node)
            assert (g is None) == (e is None)
            assert g is None or g.tobytes() == e.tobytes()


def test_nodes_that_another_process_waits_for_come_first() -> None:
    x, w = variable(np.ones(2)), variable(np.ones(2))
    y = ops.sum(ops.sin(x * w) * w)
    arrived: list[Node] = []
    awaiting = Pass(lambda node, _: arrived.append(node), awaited=lambda node: node is x.node)
    awaiting.expect([(y.node, 0)])
    awaiting.seed(y.node, 0, np.ones(()))
    awaiting.run()
    assert arrived == [x.node, w.node]


@pytest.mark.parametrize("leads_away", [False, True])
def test_what_comes_back_into_the_graph_is_hurried_only_if_it_leads_away(leads_away: bool) -> None:
    # `far` leaves this process; the gradient of `near` comes back into the graph at `before`, which may come from far.
    far, near = variable(np.ones(2)), variable(np.ones(2))
    before = ops.sin(far if leads_away else variable(np.ones(2)))
    y = ops.sum(near * 2.0)
    one = Pass(
        lambda *_: None,
        awaited=lambda node: node in (far.node, near.node),
        source=lambda node: before.node if node is near.node else None,
    )
    one.expect([(y.node, 0)], sources=[before.node])
    one.seed(y.node, 0, np.ones(()))
    assert one.hurried is leads_away


def test_a_pass_at_rest_knows_who_holds_a_gradient() -> None:
    x = variable(2.0)
    y, unused = x * 3.0, x * 5.0
    resting = Pass(lambda *_: None)
    resting.expect([(y.node, 0)], sources=[unused.node])
    resting.seed(y.node, 0, np.ones(()))
    resting.run()
    assert resting.idle
    assert resting.waiting == 2
    assert resting.holding() == [x.node]
    resting.seed(unused.node, 0, None)
    resting.run()
    assert (resting.waiting, resting.holding()) == (0, [])


def test_a_node_given_only_nones_passes_none_on() -> None:
    x = variable(2.0)
    y = ops.sin(x)
    found: dict[Node, Any] = {}
    run_pass([y.node], [None], found.__setitem__, wanted=None, retain=False, record=False)
    assert found == {x.node: None}


# ---- gradients -------------------------------------------------------------------------------------------------------


def test_gradients_accumulate_over_passes_and_variables_without_one_stay_none() -> None:
    x, y = variable([1.0, 2.0]), variable(1.0)
    (x * x).sum().backward()
    (3 * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [5.0, 7.0])
    assert y.grad is None


def test_several_roots_with_seeds_of_their_own() -> None:
    x = variable([1.0, 2.0])
    dg.backward([x * 2, ops.sum(x)], [np.array([1.0, 10.0]), None])
    np.testing.assert_array_equal(x.grad, [3.0, 21.0])


def test_only_the_wanted_variables_receive_a_gradient() -> None:
    x, w = variable(2.0), variable(3.0)
    (x * w).backward(inputs=[w])
    assert x.grad is None
    assert w.grad == 2.0


def test_gradients_of_computed_tensors_and_of_one_another() -> None:
    x = variable(2.0)
    h = x * x
    y = h * h
    by_x, by_h = gradients([y], None, [x, h])
    assert (by_x, by_h) == (32.0, 8.0)


def test_results_of_one_operation_receive_their_own_gradients_and_zeros_for_none() -> None:
    x = variable([1.0, 2.0, 3.0])
    first, _, third = ops.split(x, 3)
    (first * 2 + third * third).sum().backward()
    np.testing.assert_array_equal(x.grad, [2.0, 0.0, 6.0])


def test_second_derivatives_through_operations_with_several_results() -> None:
    x = variable([1.0, 2.0, 3.0])
    first, _, third = ops.split(x * x, 3)
    (g,) = gradients([(first * third).sum()], None, [x], create_graph=True)
    (g * np.array([1.0, 1.0, 1.0])).sum().backward()
    # x0² x2²: 2 x0 x2² + 2 x0² x2
    np.testing.assert_allclose(x.grad, [2 * 9 + 4 * 3, 0.0, 4 * 3 + 2 * 1])


def test_create_graph_makes_gradients_that_can_be_differentiated_under_no_grad_too() -> None:
    x = variable(3.0)
    y = x * x * x
    with dg.no_grad():
        y.backward(create_graph=True)
    assert isinstance(x.grad, dg.Tensor)
    (second,) = gradients([x.grad], None, [x])
    assert second == 18.0


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_a_gradient_has_the_shape_and_dtype_of_its_variable(dtype: str) -> None:
    x = dg.tensor(np.ones((3, 1)), dtype=dtype, requires_grad=True)
    ops.sum(ops.abs(x * np.ones((2, 3, 4)) * 2.5)).backward()
    assert x.grad.shape == (3, 1)
    assert x.grad.dtype == np.dtype(dtype)
    np.testing.assert_allclose(x.grad, 20.0)


def test_a_gradient_may_be_written_to_without_changing_another() -> None:
    x, y, z = variable(np.ones(3)), variable(np.ones(3)), variable(np.ones((2, 3)))
    seed = np.full(3, 5.0)
    (x + y + ops.sum(z, axis=0)).backward(seed)
    for leaf in (x, y, z):
        leaf.grad *= 2.0
    for leaf in (x, y, z):
        np.testing.assert_array_equal(leaf.grad, np.full(leaf.shape, 10.0))
    np.testing.assert_array_equal(seed, np.full(3, 5.0))
    by_x, by_y = dg.grad(lambda x, y: ops.sum(x + y), argnums=(0, 1))(np.ones(3), np.ones(3))
    by_x *= 2.0
    np.testing.assert_array_equal(by_y, np.ones(3))


# ---- hooks -----------------------------------------------------------------------------------------------------------


def test_hooks_run_once_on_the_complete_gradient_and_may_replace_it() -> None:
    x = variable(2.0)
    h = x * 1.0
    seen = []
    h.register_hook(lambda g: seen.append(g.item()))
    h.register_hook(lambda g: g * 10)
    (h * h + 3 * h).backward()
    assert seen == [7.0]
    assert x.grad == 70.0


def test_a_hook_on_a_table_of_an_embedding_gets_a_dense_gradient() -> None:
    table = variable(np.zeros((3, 1)))
    table.register_hook(lambda g: g * 10)
    ops.sum(ops.embedding(table, np.array([1, 1]))).backward()
    np.testing.assert_array_equal(table.grad, [[0.0], [20.0], [0.0]])


def test_a_removed_hook_runs_no_more() -> None:
    x = variable(2.0)
    remove = x.register_hook(lambda g: g * 0)
    remove()
    (x * x).backward()
    assert x.grad == 4.0


def test_a_hook_on_a_constant_is_refused() -> None:
    with pytest.raises(GradientError, match="does not require grad"):
        dg.tensor(1.0).register_hook(print)


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_a_second_pass_over_a_freed_graph_says_what_to_do() -> None:
    x = variable(2.0)
    y = ops.sin(x)
    y.backward()
    with pytest.raises(FreedGraphError, match=r"<sin .*retain_graph=True"):
        y.backward()


def test_a_retained_graph_can_be_passed_again() -> None:
    x = variable(2.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad == 8.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: (x * 2).backward(), r"shape \(2,\): only a scalar can do without gradient="),
        (lambda x: (x * 2).backward(np.ones(3)), r"gradient= has shape \(3,\), but the root has shape \(2,\)"),
        (lambda x: x.detach().sum().backward(), "does not require grad"),
        (lambda x: dg.backward(x.sum()), "takes a list of roots"),
        (lambda x: dg.backward(x * 2), "takes a list of roots"),
        (lambda x: dg.backward([x.numpy()]), "must be a tensor, not ndarray"),
        (lambda x: (x * 2).sum().backward(inputs=[dg.tensor(1.0)]), r"inputs\[0\] does not require grad"),
        (lambda x: dg.tensor([1, 2], requires_grad=True), "int64; convert it first"),
        (lambda x: dg.tensor(True, requires_grad=True), "bool; convert it first"),
    ],
)
def test_what_cannot_be_differentiated_is_said(call: Any, message: str) -> None:
    with pytest.raises(GradientError, match=message):
        call(variable([1.0, 2.0]))


# ---- in-place writes -------------------------------------------------------------------------------------------------


def test_writing_to_a_saved_operand_is_noticed_by_the_pass() -> None:
    x, c = variable([1.0, 2.0]), dg.tensor([3.0, 4.0])
    y = ops.sum(x * c)
    c[0] = 100.0
    with pytest.raises(InPlaceError, match=r"operand 1 of <multiply .*set_at"):
        y.backward()


def test_writing_through_a_view_is_noticed() -> None:
    x, c = variable([1.0, 2.0]), dg.tensor([[3.0, 4.0], [5.0, 6.0]])
    y = ops.sum(x * dg.tensor([1.0, 1.0]) * c[0])
    view = dg.Tensor(c.data[0])
    view[1] = 0.0
    with pytest.raises(InPlaceError):
        y.backward()


def test_writing_to_an_array_over_foreign_memory_is_noticed() -> None:
    memory = np.frombuffer(bytearray(16))
    x, c = variable([1.0, 2.0]), dg.Tensor(memory[:])
    y = ops.sum(x * c)
    dg.Tensor(memory)[0] = 5.0
    with pytest.raises(InPlaceError):
        y.backward()


def test_writing_to_a_saved_result_is_noticed() -> None:
    x = variable(np.ones(2))
    y = ops.exp(x)
    with dg.no_grad():
        y[0] = 0.0
    with pytest.raises(InPlaceError, match="<exp"):
        y.sum().backward()


@pytest.mark.parametrize("name", ["eigh", "qr", "svd"])
def test_writing_to_one_of_several_saved_results_is_noticed(name: str) -> None:
    results = getattr(ops, name)(variable([[2.0, 1.0], [1.0, 3.0]]))
    with dg.no_grad():
        results[1][...] = 0.0
    with pytest.raises(InPlaceError, match=f"<{name}"):
        ops.sum(results[0]).backward()


def test_writes_before_recording_and_to_what_no_rule_needs_are_allowed() -> None:
    x, c = variable([1.0, 2.0]), dg.tensor([3.0, 4.0])
    c[0] = 100.0
    y = ops.sum(x * c)
    d = dg.tensor([1.0, 1.0])
    z = ops.sum(x + d)
    d[0] = 7.0
    (y + z).backward()
    np.testing.assert_array_equal(x.grad, [101.0, 5.0])


def test_a_recorded_tensor_is_not_written_to() -> None:
    x = variable([1.0, 2.0])
    with pytest.raises(InPlaceError, match="set_at"):
        x[0] = 3.0
    with dg.no_grad():
        x[0] = 3.0
    assert x.tolist() == [3.0, 2.0]


# ---- size and memory -------------------------------------------------------------------------------------------------


def test_a_chain_of_100_000_operations_goes_forward_and_backward_without_recursion() -> None:
    x = variable(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert x.grad == 1.0
    del y


@pytest.mark.parametrize("count", [200_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_long_chain_is_freed_without_recursion(count: int) -> None:
    frame = Frame()
    node: Node = Leaf(frame, (), None)
    for _ in range(count):
        node = Node((node,), frame, (), None)
    last = weakref.ref(node)
    del node
    assert last() is None


def test_a_chain_that_is_never_passed_over_is_freed_at_once() -> None:
    x = variable(np.ones(3))
    y = x
    for _ in range(20_000):
        y = ops.sin(y)
    node = weakref.ref(y.node)
    gc.disable()
    try:
        del y
        assert node() is None
    finally:
        gc.enable()


def test_no_array_outlives_the_pass() -> None:
    class Watched(np.ndarray):
        """An array that can be referred to weakly."""

    x = variable(np.ones(3))
    constant = np.ones(3).view(Watched)
    seen = weakref.ref(constant)
    y = ops.sum(ops.exp(x * constant))
    del constant
    assert seen() is not None
    y.backward()
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_memory_stays_flat_over_many_training_steps(count: int) -> None:
    w, b = variable(np.ones(50)), variable(np.zeros(50))

    def steps(n: int) -> int:
        for _ in range(n):
            h = ops.tanh(w * 0.5 + b)
            ops.sum(h * h).backward()
            for p in (w, b):
                p.set_data(p.data - 1e-3 * p.grad)
                p.grad = None
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    steps(10)
    tracemalloc.start()
    try:
        before = steps(count // 10)
        assert steps(count) - before < 20_000
    finally:
        tracemalloc.stop()


def test_threads_record_and_pass_side_by_side() -> None:
    results: dict[int, float] = {}
    switched_off = []

    def work(k: int) -> None:
        x = variable(float(k))
        y = x
        for _ in range(300):
            y = y + x
        y.backward()
        results[k] = float(x.grad)
        switched_off.append((x * 1.0).requires_grad)

    with dg.no_grad():
        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == dict.fromkeys(range(4), 301.0)
    # A switch belongs to the thread that set it.
    assert switched_off == [True] * 4


def test_sparse_gradients_reach_a_table_sparse_and_are_dense_elsewhere() -> None:
    table = variable(np.zeros((5, 2)))
    ops.sum(ops.embedding(table, np.array([1, 3, 1]))).backward()
    assert isinstance(table.grad, Rows)
    np.testing.assert_array_equal(table.grad.dense()[:, 0], [0, 2, 0, 1, 0])
    scaled = table * 2.0
    (g,) = gradients([ops.sum(ops.embedding(scaled, np.array([1])))], None, [scaled])
    assert isinstance(g, np.ndarray)


def test_passes_of_several_threads_add_up_in_a_variable_they_share() -> None:
    shared = dg.tensor(np.ones((400, 400)), requires_grad=True)

    def passes() -> None:
        for _ in range(25):
            ops.sum(shared * 1.0).backward()

    threads = [threading.Thread(target=passes) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (shared.grad == 100).all()
