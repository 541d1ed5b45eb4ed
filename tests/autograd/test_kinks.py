"""What the gradient is where there is none: the conventions at kinks and edges, pinned one by one (they are
PyTorch's).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd.tensor import Tensor

ops = dg.ops
INF, NAN = float("inf"), float("nan")


def gradient(f: Callable[..., Any], *xs: Any, of: int = 0) -> Any:
    """The gradient of Σ f(*xs) by its argument `of`, as a list or a number."""
    arrays = [np.asarray(x, dtype=complex if np.iscomplexobj(x) else float) for x in xs]
    variables = [dg.tensor(a, requires_grad=True) for a in arrays]
    dg.backward([ops.sum(f(*variables))])
    found = variables[of].grad
    return np.zeros(arrays[of].shape).tolist() if found is None else np.asarray(found).tolist()


KINKS: dict[str, tuple[Callable[[], Any], Any]] = {
    # name: (the gradient, what it is by convention)
    "max over all with two ties": (lambda: gradient(ops.max, [2.0, 1.0, 2.0]), [0.5, 0.0, 0.5]),
    "min over all with two ties": (lambda: gradient(ops.min, [2.0, 1.0, 1.0]), [0.0, 0.5, 0.5]),
    "max along an axis with ties": (lambda: gradient(lambda x: ops.max(x, axis=0), [2.0, 1.0, 2.0]), [1.0, 0.0, 0.0]),
    "min along an axis with ties": (lambda: gradient(lambda x: ops.min(x, axis=0), [2.0, 1.0, 1.0]), [0.0, 1.0, 0.0]),
    "max over two axes with ties": (
        lambda: gradient(lambda x: ops.max(x, axis=(0, 1)), [[2.0, 1.0], [2.0, 2.0]]),
        [[1 / 3, 0.0], [1 / 3, 1 / 3]],
    ),
    "maximum of equals": (lambda: gradient(ops.maximum, [1.0], [1.0]), [0.5]),
    "maximum of equals, the second": (lambda: gradient(ops.maximum, [1.0], [1.0], of=1), [0.5]),
    "maximum(x, 0) at 0": (lambda: gradient(lambda x: ops.maximum(x, 0), 0.0), 0.5),
    "minimum(x, 0) at 0": (lambda: gradient(lambda x: ops.minimum(x, 0), 0.0), 0.5),
    "fmax of equals": (lambda: gradient(ops.fmax, [1.0], [1.0]), [0.5]),
    "fmax with nan": (lambda: gradient(ops.fmax, [1.0, NAN], [NAN, 1.0]), [1.0, 0.0]),
    "fmin with nan": (lambda: gradient(ops.fmin, [1.0, NAN], [NAN, 1.0]), [1.0, 0.0]),
    "abs at 0": (lambda: gradient(ops.abs, [0.0, -0.0]), [0.0, 0.0]),
    "abs at complex 0": (lambda: gradient(ops.abs, [0j]), [0j]),
    "sign at 0": (lambda: gradient(ops.sign, 0.0), 0.0),
    "norm at the zero vector": (lambda: gradient(ops.norm, [0.0, 0.0]), [0.0, 0.0]),
    "1-norm at the zero vector": (lambda: gradient(lambda x: ops.norm(x, ord=1), [0.0, 0.0]), [0.0, 0.0]),
    "3-norm at the zero vector": (lambda: gradient(lambda x: ops.norm(x, ord=3), [0.0, 0.0]), [0.0, 0.0]),
    "1/2-norm with a zero": (lambda: gradient(lambda x: ops.vector_norm(x, ord=0.5), [0.0, 1.0]), [0.0, 1.0]),
    "max-norm with ties": (lambda: gradient(lambda x: ops.norm(x, ord=INF), [2.0, -2.0, 1.0]), [0.5, -0.5, 0.0]),
    "hypot at the origin": (lambda: gradient(ops.hypot, 0.0, 0.0), 0.0),
    "arctan2 at the origin": (lambda: gradient(ops.arctan2, 0.0, 0.0), 0.0),
    "angle at the origin": (lambda: gradient(ops.angle, [0j]), [0j]),
    "std of equal elements": (lambda: gradient(ops.std, [1.5, 1.5]), [0.0, 0.0]),
    "sqrt at 0": (lambda: gradient(ops.sqrt, 0.0), INF),
    "prod with one zero": (lambda: gradient(ops.prod, [2.0, 0.0, 3.0]), [0.0, 6.0, 0.0]),
    "prod with two zeros": (lambda: gradient(ops.prod, [2.0, 0.0, 0.0]), [0.0, 0.0, 0.0]),
    "cumprod with a zero": (lambda: gradient(lambda x: ops.cumprod(x)[2], [2.0, 0.0, 3.0]), [0.0, 6.0, 0.0]),
    "clip at both bounds": (lambda: gradient(lambda x: ops.clip(x, 0, 1), [0.0, 1.0, 2.0]), [1.0, 1.0, 0.0]),
    "clip, its bound, at the bound": (lambda: gradient(lambda x, a: ops.clip(x, a, None), [1.0], [1.0], of=1), [0.0]),
    "x ** 0.0 at 0": (lambda: gradient(lambda x: x**0.0, 0.0), 0.0),
    "x ** [0.0] at 0": (lambda: gradient(lambda x: x ** np.array([0.0]), [0.0]), [0.0]),
    "x ** 1.0 at 0": (lambda: gradient(lambda x: x**1.0, 0.0), 1.0),
    "0 ** y at 2": (lambda: gradient(lambda x, y: x**y, 0.0, 2.0, of=1), 0.0),
    "the number 0 ** y at 2": (lambda: gradient(lambda y: 0.0**y, 2.0), 0.0),
    "where over a domain error": (lambda: gradient(lambda x: ops.where(x > 0, ops.sqrt(x), 0.0), -1.0), NAN),
    "where guarded twice": (
        lambda: gradient(lambda x: ops.where(x > 0, ops.sqrt(ops.where(x > 0, x, 1.0)), 0.0), -1.0),
        0.0,
    ),
    "square of a modulus": (lambda: gradient(lambda z: ops.abs(z) ** 2, [1 + 2j]), [2 + 4j]),
    "z times its conjugate": (lambda: gradient(lambda z: ops.real(z * ops.conj(z)), [1 + 2j]), [2 + 4j]),
    "copysign at 0": (lambda: gradient(ops.copysign, 0.0, 1.0), 0.0),
    "heaviside at 0, its value there": (lambda: gradient(ops.heaviside, [0.0, 1.0], [0.5, 0.5], of=1), [1.0, 0.0]),
    "nan_to_num at nan and inf": (lambda: gradient(ops.nan_to_num, [NAN, INF, 1.0]), [0.0, 0.0, 1.0]),
    "nansum at nan": (lambda: gradient(ops.nansum, [NAN, 1.0]), [0.0, 1.0]),
    "xlogy at (0, 0)": (lambda: gradient(ops.xlogy, 0.0, 0.0), 0.0),
    "xlogy at (0, 0), by y": (lambda: gradient(ops.xlogy, 0.0, 0.0, of=1), 0.0),
    "xlogy at (0, 2)": (lambda: gradient(ops.xlogy, 0.0, 2.0), float(np.log(2.0))),
    "logsumexp of -inf alone": (lambda: gradient(ops.logsumexp, [-INF, -INF]), [0.0, 0.0]),
    "logsumexp with a -inf": (lambda: gradient(ops.logsumexp, [-INF, 1.0]), [0.0, 1.0]),
    "logaddexp of -inf twice": (lambda: gradient(ops.logaddexp, -INF, -INF), 0.5),
    "logaddexp of inf and a number": (lambda: gradient(ops.logaddexp, INF, 1.0), 1.0),
    "sinc at 0": (lambda: gradient(ops.sinc, 0.0), 0.0),
    "median of an even number": (lambda: gradient(ops.median, [3.0, 1.0, 2.0, 9.0]), [0.5, 0.0, 0.5, 0.0]),
}


@pytest.mark.parametrize("case", KINKS)
def test_the_gradient_at_a_kink_follows_the_convention(case: str) -> None:
    with np.errstate(invalid="ignore"):  # NumPy says of the forward computation what it always says
        found, expected = KINKS[case][0](), KINKS[case][1]
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_the_second_derivative_of_sinc_at_zero_is_that_of_its_series() -> None:
    assert dg.grad(dg.grad(ops.sinc))(0.0) == pytest.approx(-(np.pi**2) / 3)


def test_the_second_derivative_of_logaddexp_at_equal_operands_is_a_quarter() -> None:
    assert dg.grad(dg.grad(ops.logaddexp))(1.0, 1.0) == pytest.approx(0.25)


def test_the_mixed_second_derivatives_of_a_product_see_through_zeros() -> None:
    hessian = dg.hessian(ops.prod)(np.array([0.0, 0.0, 5.0]))
    np.testing.assert_array_equal(hessian, [[0, 5, 0], [5, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("maximum", ([1.0, 2.0], [1.0, 0.0])),
        ("minimum", ([1.0, 2.0], [1.0, 0.0])),
        ("abs", ([0.0, -1.0],)),
        ("hypot", ([3.0], [4.0])),
        ("xlogy", ([0.0, 2.0], [1.5, 3.0])),
        ("clamp", ([0.0, 0.5, 1.0, 2.0],)),
        ("amax", ([2.0, 1.0, 2.0],)),
        ("pow", ([0.0, 0.0, 2.0], [0.0, 1.0, 0.0])),
    ],
)
def test_pytorch_has_the_same_conventions(name: str, args: tuple[list[float], ...]) -> None:
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in args]
    bounds = (0.0, 1.0) if name == "clamp" else ()
    getattr(torch, name)(*tensors, *bounds).sum().backward()
    ours = {"clamp": "clip", "amax": "max", "pow": "power"}.get(name, name)
    for i, t in enumerate(tensors):
        found = gradient(lambda *xs: getattr(ops, ours)(*xs, *bounds), *args, of=i)
        np.testing.assert_array_equal(found, t.grad.tolist())


MASKS: dict[str, Callable[[Any], Any]] = {
    "relu": ops.relu,
    "hardtanh": lambda x: ops.hardtanh(x, low=0.0, high=9.0),
    "maximum": lambda x: ops.maximum(x, 0.0),
    "minimum": lambda x: ops.minimum(-x, 0.0),
    "fmax": lambda x: ops.fmax(x, 0.0),
    "clip": lambda x: ops.clip(x, 0.0, None),
    "where": lambda x: ops.where(x > 0, x, 0.0),
    "where of numbers": lambda x: ops.where(np.array([0, 2]), x, 0.0),
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_an_infinite_gradient_does_not_reach_an_element_that_was_not_chosen(
    name: str, create_graph: bool, dtype: type
) -> None:
    for seed in (INF, NAN):
        x = dg.tensor(np.array([-1.0, 1.0], dtype), requires_grad=True)
        dg.backward([MASKS[name](x)], [np.array([seed, seed], dtype)], create_graph=create_graph)
        found = np.abs(x.grad.numpy() if create_graph else x.grad)
        np.testing.assert_array_equal(found, np.array([0.0, seed], dtype))


def test_a_gradient_at_a_kink_is_a_tensor_under_create_graph() -> None:
    x = dg.tensor([1.0, 1.0], requires_grad=True)
    dg.backward([ops.max(x)], create_graph=True)
    assert isinstance(x.grad, Tensor)
