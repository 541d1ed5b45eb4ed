"""no_grad, enable_grad, detect_anomaly; and what a tensor is outside of derivatives."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import GradientError

ops = dg.ops


def variable(value: object) -> dg.Tensor:
    return dg.tensor(value, requires_grad=True)


# ---- switches --------------------------------------------------------------------------------------------------------


def test_nothing_is_recorded_under_no_grad_and_again_under_enable_grad() -> None:
    x = variable(1.0)
    with dg.no_grad():
        assert not (x * 2).requires_grad
        with dg.enable_grad():
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


def test_a_switch_decorates_functions_that_recurse_and_run_in_threads() -> None:
    @dg.no_grad()
    def depth(x: dg.Tensor, n: int) -> list[bool]:
        return [(x * 1).requires_grad, *(depth(x, n - 1) if n else [])]

    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.extend(depth(variable(1.0), 3))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [False] * 12
    assert (variable(1.0) * 1).requires_grad


def test_a_switch_is_undone_by_an_exception() -> None:
    with pytest.raises(RuntimeError), dg.no_grad():
        raise RuntimeError
    assert (variable(1.0) * 1).requires_grad


def test_a_switch_can_be_entered_within_itself_and_by_several_threads_at_once() -> None:
    quiet, found, both_in = dg.no_grad(), [], threading.Barrier(2, timeout=10)

    def enter_twice() -> None:
        with quiet:
            both_in.wait()
            with quiet:
                both_in.wait()
            found.append((variable(1.0) * 1).requires_grad)
        found.append((variable(1.0) * 1).requires_grad)

    threads = [threading.Thread(target=enter_twice) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [False, False, True, True]


def test_generators_that_were_left_within_a_switch_in_any_order_leave_it_undone() -> None:
    def steps() -> Iterator[None]:
        with dg.no_grad():
            yield

    generators: list[Any] = [steps(), steps()]
    for generator in generators:
        next(generator)
    for generator in generators:
        generator.close()
    assert (variable(1.0) * 1).requires_grad


def test_a_switch_decorates_coroutine_functions() -> None:
    @dg.no_grad()
    async def recorded() -> bool:
        await asyncio.sleep(0)
        return (variable(1.0) * 1).requires_grad

    async def both() -> list[bool]:
        return [await recorded(), (variable(1.0) * 1).requires_grad]

    assert asyncio.run(both()) == [False, True]


def test_a_switch_decorates_generators_and_leaves_their_users_mode_alone() -> None:
    def recorded() -> bool:
        return (variable(1.0) * 1).requires_grad

    ends: list[Any] = []

    @dg.no_grad()
    def numbers() -> Iterator[Any]:
        try:
            got = yield recorded()
            try:
                yield got
            except KeyError:
                yield recorded()
        finally:
            ends.append(recorded())
        return "end"

    def delegated() -> Iterator[Any]:
        ends.append((yield from numbers()))

    steps: Any = delegated()
    found = [next(steps), recorded(), steps.send(5), recorded(), steps.throw(KeyError()), recorded(), *steps]
    assert found == [False, True, 5, True, False, True]
    left: Any = numbers()
    next(left)
    left.close()
    assert ends == [False, "end", False]
    with pytest.raises(TypeError, match="asynchronous generator"):

        @dg.no_grad()
        async def never() -> Any:
            yield 1


def test_a_computed_number_can_be_written_to_and_the_gradient_is_of_what_it_was() -> None:
    x = variable([1.0, 2.0])
    total = ops.sum(x)
    y = total * total
    with dg.no_grad():
        total[...] = 7.0
    y.backward()
    assert (total.item(), x.grad.tolist()) == (7.0, [6.0, 6.0])


# ---- anomalies -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_first_nan_is_named_with_its_line_and_reason() -> None:
    x = variable([-1.0, 2.0])
    with dg.detect_anomaly(), pytest.raises(GradientError) as caught:
        root = ops.sqrt(x)  # the culprit
        ops.sum(ops.where(x > 0, root, 0.0)).backward()
    text = str(caught.value)
    assert "operand 0 of <sqrt " in text
    assert "nan at index (0,) (1 of 2 elements)" in text
    source = Path(__file__).read_text().splitlines()
    line = next(n for n, line in enumerate(source, 1) if "# the culprit" in line)
    assert f'test_modes.py", line {line}, in test_the_first_nan' in text
    assert "dg.ops.where" in text


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_infinite_derivative_is_named() -> None:
    with dg.detect_anomaly(), pytest.raises(GradientError, match=r"(?s)infinite there .*has no finite derivative"):
        dg.grad(lambda x: ops.sqrt(x) * 1.0)(0.0)


def test_a_gradient_that_was_wrong_from_the_start_is_told_apart() -> None:
    x = variable([1.0, 2.0])
    with dg.detect_anomaly(), pytest.raises(GradientError, match="came to it was not finite either"):
        (x * 2.0).backward(np.array([np.nan, 1.0]))


def test_recorded_passes_are_watched_too() -> None:
    with dg.detect_anomaly(), np.errstate(all="ignore"), pytest.raises(GradientError, match="is nan there"):
        dg.grad(dg.grad(lambda x: x * ops.sqrt(x)))(0.0)


def test_finite_gradients_pass() -> None:
    with dg.detect_anomaly():
        assert dg.grad(lambda x: x * x)(3.0) == 6.0


def test_an_error_inside_a_rule_names_the_operation_and_under_detect_anomaly_the_line() -> None:
    f = dg.custom_vjp(lambda x: x * 1.0)
    f.defvjp(lambda x: (x * 1.0, None), lambda kept, g: 1 / 0)
    with pytest.raises(ZeroDivisionError) as plain:
        f(variable(1.0)).backward()
    assert "while computing the gradient of <" in plain.value.__notes__[0]
    assert "dg.detect_anomaly()" in plain.value.__notes__[0]
    with dg.detect_anomaly(), pytest.raises(ZeroDivisionError) as watched:
        f(variable(1.0)).backward()  # who recorded it
    assert "test_modes.py" in watched.value.__notes__[0]
    assert "in test_an_error_inside_a_rule" in "".join(traceback.format_exception(watched.value))


# ---- tensors ---------------------------------------------------------------------------------------------------------


def test_pictures_of_tensors() -> None:
    assert repr(dg.tensor([1.0, 2.0])) == "tensor([1., 2.], dtype=float64)"
    assert repr(variable([1.0, 2.0])) == "tensor([1., 2.], dtype=float64, requires_grad)"
    seen: list[str] = []
    dg.jvp(lambda x: [seen.append(repr(x)), x][1], (1.0,), (2.0,))
    dg.vmap(lambda x: [seen.append(repr(x)), x][1])(np.ones((3, 2)))
    dg.jvp(dg.grad(lambda x: [seen.append(repr(x)), x][1]), (1.0,), (2.0,))
    assert seen == [
        "Dual(tensor(1., dtype=float64), tangent=tensor(2., dtype=float64))",
        "Batched(shape=(2,), batch=3, dtype=float64)",
        "Lifted(Dual(tensor(1., dtype=float64), tangent=tensor(2., dtype=float64)))",
    ]


def test_pictures_of_nodes() -> None:
    x = variable(np.ones((2, 3)))
    assert repr(ops.sin(x).node).startswith("<sin ")
    assert repr(ops.sin(x).node).endswith(" float64[2, 3]>")
    assert "leaf" in repr(x.node)


def test_a_deep_copy_of_a_variable_is_another_variable() -> None:
    x = variable([1.0, 2.0])
    (x * x).sum().backward()
    model = {"w": x, "again": x, "constant": dg.tensor(3.0)}
    copied = copy.deepcopy(model)
    assert copied["w"] is copied["again"]
    assert copied["w"].node is not x.node
    assert copied["w"].grad is None
    copied["w"].data[0] = 7.0
    assert x.tolist() == [1.0, 2.0]
    assert not copied["constant"].requires_grad


def test_a_computed_tensor_is_not_copied_and_no_tensor_is_pickled() -> None:
    x = variable([1.0, 2.0])
    with pytest.raises(GradientError, match="detach"):
        copy.deepcopy(x * 2)
    with pytest.raises(TypeError, match=r"x\.numpy\(\)"):
        pickle.dumps(x)


def test_the_array_of_a_tensor_is_handed_out_read_only() -> None:
    x = variable([1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 3.0


def test_new_data_must_be_of_the_same_kind_and_old_graphs_keep_the_old() -> None:
    x = variable([1.0, 2.0])
    y = ops.sum(x * x)
    x.set_data(np.array([10.0, 20.0]))
    y.backward()
    np.testing.assert_array_equal(x.grad, [2.0, 4.0])
    with pytest.raises(GradientError, match=r"shape \(2,\).*shape \(3,\)"):
        x.set_data(np.zeros(3))
    with pytest.raises(GradientError, match="only variables can be given new data"):
        y.set_data(np.array(1.0))
