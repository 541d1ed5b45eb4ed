"""Every primitive of the table, by independent judges: NumPy, finite differences, the complex step, PyTorch, another
namespace.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd.primitive import PRIMITIVES
from distgrad.autograd.tensor import variable
from tests.autograd.case import Case, cases, inner, plain, results, size
from tests.autograd.samples import all_samples

SAMPLED = sorted(all_samples())
CONSTANT = [
    name
    for name, samples in sorted(all_samples().items())
    if (PRIMITIVES[name].vjps is None if name in PRIMITIVES else all(s.order == 0 for s in samples))
]
DIFFERENTIABLE = sorted(set(SAMPLED) - set(CONSTANT))

TOLERANCE = 1e-6

every = pytest.mark.parametrize("name", SAMPLED)
every_differentiable = pytest.mark.parametrize("name", DIFFERENTIABLE)


def close(found: float, expected: float, scale: float, tolerance: float = TOLERANCE) -> bool:
    return abs(found - expected) <= tolerance * max(1.0, scale)


# ---- the table itself ------------------------------------------------------------------------------------------------


def test_every_operation_has_samples() -> None:
    assert sorted(set(dg.ops.__all__) - dg.ops.ALIASES.keys() - all_samples().keys()) == []


@pytest.mark.parametrize("name", [name for name in DIFFERENTIABLE if name in PRIMITIVES])
def test_every_primitive_has_samples_without_elements_and_of_one(name: str) -> None:
    sizes = {x.size for case in cases(name) for x in case.xs}
    assert 0 in sizes
    # A query, a key and a value are three.
    assert (3 if name == "self_attention" else 1) in sizes


def test_every_sample_belongs_to_an_operation() -> None:
    assert [name for name in SAMPLED if not hasattr(dg.ops, name)] == []


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_a_primitive_says_what_it_computes(name: str) -> None:
    assert PRIMITIVES[name].doc


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_both_tables_have_the_same_keys(name: str) -> None:
    """A primitive with vjps has a jvp, its own or derived, and one without has neither."""
    op = PRIMITIVES[name]
    assert callable(op.jvp) or op.jvp in ("same", "linear", "derived")
    if op.vjps is None:
        assert op.jvp == "derived"


# ---- values ----------------------------------------------------------------------------------------------------------


def numpy_oracle(case: Case) -> Any:
    """What NumPy, or the sample's own oracle, computes; None where there is none."""
    function = case.sample.expected or getattr(np, case.name, None)
    return None if function is None else case.call(function, case.operands)


@every
def test_the_value_is_that_of_numpy(name: str) -> None:
    for case in cases(name):
        with case.blamed():
            expected = numpy_oracle(case)
            if expected is None:
                assert case.sample.torch is not None, "neither NumPy nor the sample knows the value"
                continue
            found = case.f(*case.xs)
            for y, e in zip(found, results(expected), strict=True):
                e = np.asarray(e)
                assert y.shape == e.shape
                assert y.dtype == e.dtype
                np.testing.assert_allclose(y.numpy(), e, rtol=case.sample.rtol, atol=1e-13)


@every
def test_how_an_operand_lies_in_memory_makes_no_difference(name: str) -> None:
    for case in cases(name):
        with case.blamed():
            strided = case.strided()
            for y, e in zip(strided.f(*strided.xs), case.f(*case.xs), strict=True):
                np.testing.assert_allclose(y.numpy(), e.numpy(), rtol=1e-10, atol=1e-12)
            if name in CONSTANT:
                continue
            value, pull = dg.vjp(case.smooth, *case.xs)
            cotangents = tuple(case.directions(value))
            found = dg.vjp(strided.smooth, *strided.xs)[1](cotangents)
            for g, e in zip(found, pull(cotangents), strict=True):
                np.testing.assert_allclose(g, e, rtol=1e-10, atol=1e-10 * max(1.0, size([e])))


@pytest.mark.parametrize("name", CONSTANT)
def test_what_has_no_gradient_is_outside_any_graph(name: str) -> None:
    for case in cases(name):
        with case.blamed():
            xs = [dg.tensor(x, requires_grad=True) for x in case.xs]
            assert not any(y.requires_grad for y in case.f(*xs))


@every_differentiable
def test_single_precision_is_kept(name: str) -> None:
    for case in cases(name):
        double, single = case, case.single()
        with single.blamed():
            expected, pull = dg.vjp(double.smooth, *double.xs)
            cotangents = double.directions(expected)
            gradients = pull(tuple(cotangents))
            value, pull = dg.vjp(single.smooth, *single.xs)
            oracle = numpy_oracle(single)
            for y, e in zip(value, results(expected if oracle is None else oracle), strict=False):
                assert (
                    y.dtype == np.asarray(e).dtype if oracle is not None else y.dtype.itemsize * 2 == e.dtype.itemsize
                )
            narrow = tuple(v.astype(y.dtype) for v, y in zip(cotangents, value, strict=True))
            for x, found, e in zip(single.xs, pull(narrow), gradients, strict=True):
                assert found.dtype == x.dtype
                np.testing.assert_allclose(found, e, rtol=2e-3, atol=2e-3 * max(1.0, size([e])))


# ---- first derivatives -----------------------------------------------------------------------------------------------


@every_differentiable
def test_the_vjp_agrees_with_central_differences(name: str) -> None:
    for case in cases(name):
        with case.blamed():
            value, pull = dg.vjp(case.smooth, *case.xs)
            cotangents = case.directions(value)
            gradients = pull(tuple(cotangents))
            for x, g in zip(case.xs, gradients, strict=True):
                assert g.shape == x.shape
                assert g.dtype == x.dtype
            along = case.directions(case.xs)
            numerical = case.numerical(along)
            assert close(
                inner(along, gradients), inner(cotangents, numerical), size(numerical) * sum(v.size for v in value)
            )


@every_differentiable
def test_the_jvp_agrees_with_central_differences(name: str) -> None:
    for case in cases(name):
        with case.blamed():
            along = case.directions(case.xs)
            value, tangent = dg.jvp(case.smooth, tuple(case.xs), tuple(along))
            numerical = case.numerical(along)
            for y, t, n in zip(value, tangent, numerical, strict=True):
                assert t.shape == y.shape
                assert t.dtype == y.dtype
                np.testing.assert_allclose(t, n, rtol=0, atol=TOLERANCE * max(1.0, size([n])))


@every_differentiable
def test_the_jvp_is_the_vjp_transposed(name: str) -> None:
    for case in cases(name):
        with case.blamed():
            along = case.directions(case.xs)
            value, tangent = dg.jvp(case.smooth, tuple(case.xs), tuple(along))
            cotangents = case.directions(value)
            gradients = dg.vjp(case.smooth, *case.xs)[1](tuple(cotangents))
            scale = size(tangent) * sum(v.size for v in value)
            assert close(inner(along, gradients), inner(cotangents, tangent), scale, 1e-10)


@every_differentiable
def test_the_complex_step_agrees_where_the_function_is_analytic(name: str) -> None:
    for case in cases(name):
        if not case.sample.analytic:
            continue
        with case.blamed():
            along = case.directions(case.xs)
            _, tangent = dg.jvp(case.smooth, tuple(case.xs), tuple(along))
            stepped = case.arrays([x + 1e-100j * u for x, u in zip(case.xs, along, strict=True)])
            for t, y in zip(tangent, stepped, strict=True):
                np.testing.assert_allclose(t, y.imag / 1e-100, rtol=1e-10, atol=1e-10 * size([t]))


# ---- second derivatives ----------------------------------------------------------------------------------------------


@every_differentiable
def test_the_second_derivative_agrees_with_central_differences_of_the_first(name: str) -> None:
    for case in cases(name):
        if case.sample.order < 2:
            continue
        with case.blamed():
            cotangents = tuple(case.directions(case.arrays(case.xs)))

            def gradient(*xs: Any, case: Case = case, cotangents: Any = cotangents) -> tuple[Any, ...]:
                return dg.vjp(case.smooth, *xs)[1](cotangents)

            along = case.directions(case.xs)
            numerical = case.numerical(along, lambda *xs, g=gradient: list(map(plain, g(*xs))))
            first, pull = dg.vjp(gradient, *case.xs)
            weights = case.directions(first)
            reverse = pull(tuple(weights))
            scale = size(numerical) * sum(x.size for x in case.xs)
            assert close(inner(along, reverse), inner(weights, numerical), scale), "reverse over reverse"
            _, forward = dg.jvp(gradient, tuple(case.xs), tuple(along))
            assert close(inner(weights, forward), inner(weights, numerical), scale), "forward over reverse"


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


@every
def test_values_and_gradients_are_those_of_pytorch(name: str) -> None:
    pytest.importorskip("torch")
    for case in cases(name):
        if case.sample.torch is None:
            continue
        tolerance = {"rtol": 1e-8, "atol": 1e-10}
        coarse = {"rtol": 2e-3, "atol": 2e-3}
        for variant, allowed in ((case, tolerance), (case.strided(), tolerance), (case.single(), coarse)):
            with variant.blamed():
                _compare_with_torch(variant, **allowed)


def _compare_with_torch(case: Case, rtol: float, atol: float) -> None:
    import torch

    oracle = case.sample.torch
    tensors = [torch.as_tensor(x.copy()) if isinstance(x, np.ndarray) else x for x in case.operands]
    for i in case.moving:
        tensors[i].requires_grad_(True)
    if isinstance(oracle, str):
        answer = operator.attrgetter(oracle)(torch)(*tensors)
    else:
        answer = oracle(torch, *tensors, **case.sample.params)
    expected = results(answer)
    for y, e in zip(case.f(*case.xs), expected, strict=True):
        assert y.shape == tuple(e.shape)
        np.testing.assert_allclose(y.numpy(), e.numpy(force=True), rtol=rtol, atol=atol)
    if case.name in CONSTANT:
        return
    smooth = [e for e in expected if e.dtype.is_floating_point or e.dtype.is_complex]
    value, pull = dg.vjp(case.smooth, *case.xs)
    cotangents = case.directions(value)
    oracles = torch.autograd.grad(
        smooth,
        [tensors[i] for i in case.moving],
        [torch.as_tensor(v, dtype=e.dtype) for v, e in zip(cotangents, smooth, strict=True)],
        allow_unused=True,
        materialize_grads=True,
    )
    for found, x, e in zip(pull(tuple(cotangents)), case.xs, oracles, strict=True):
        e = e.numpy(force=True)
        assert found.dtype == x.dtype
        np.testing.assert_allclose(found, e, rtol=rtol, atol=atol * max(1.0, size([e])))


# ---- another namespace -----------------------------------------------------------------------------------------------


@every
def test_rules_run_on_arrays_of_another_namespace(name: str) -> None:
    strict = pytest.importorskip("array_api_strict")
    for case in cases(name):
        if not case.sample.foreign:
            continue
        with case.blamed():
            expected = case.f(*case.xs)
            operands = [strict.asarray(x.copy()) if isinstance(x, np.ndarray) else x for x in case.operands]
            tensors = [variable(x) if i in case.moving else x for i, x in enumerate(operands)]
            found = results(case.call(case.op, tensors))
            for y, e in zip(found, expected, strict=True):
                assert type(y.data) is type(strict.asarray(0.0))
                np.testing.assert_allclose(np.asarray(y.data), e.numpy(), rtol=1e-9, atol=1e-11)
            if name in CONSTANT:
                continue
            smooth, pull = dg.vjp(case.smooth, *case.xs)
            cotangents = case.directions(smooth)
            roots = [y for y in found if y.requires_grad]
            dg.backward(roots, [strict.asarray(v) for v in cotangents])
            for i, e in zip(case.moving, pull(tuple(cotangents)), strict=True):
                gradient = tensors[i].grad
                if gradient is None:
                    assert not np.any(e)
                else:
                    np.testing.assert_allclose(np.asarray(gradient), e, rtol=1e-9, atol=1e-11)
