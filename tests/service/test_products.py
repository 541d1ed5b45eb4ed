"""Every answer, at a point and in a session, is what the local engine's transforms give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import GradientError
from distgrad.service.failures import Refused
from distgrad.service.products import Evaluation, Linearisation, Question

KINDS = (Evaluation, Linearisation)


def scalar(x: Any, y: Any, p: Any = 2) -> Any:
    return np.sum(np.sin(x) * y**p) + np.sum(x * x * x)


def vector(x: Any, y: Any) -> Any:
    return {"first": np.exp(x) * y, "second": (np.sum(x * y), x[:2] * 3.0)}


def close(found: Any, expected: Any) -> None:
    leaves, structure = dg.autograd.tree.flatten(found)
    others, other = dg.autograd.tree.flatten(expected)
    assert structure == other
    for a, b in zip(leaves, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_a_value_is_one_of_a_batch_under_vmap(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(2, 3, 4))
    found = dg.vmap(lambda x, y: Evaluation(scalar, {"x": x, "y": y}, ["x"]).answer(Question("evaluate")))(x, y)
    close(found["value"], np.array([scalar(*point) for point in zip(x, y, strict=True)]))


@pytest.fixture
def point(rng: np.random.Generator) -> dict[str, Any]:
    return {"x": rng.normal(size=4), "y": rng.normal(size=4)}


def by_names(f: Any, point: dict[str, Any]) -> Any:
    return lambda chosen: f(**{**point, **chosen})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("names", [["x"], ["x", "y"], ["y"]])
def test_products_of_a_scalar_function(kind: Any, names: list[str], point: dict[str, Any]) -> None:
    evaluation = kind(scalar, point, names)
    of, chosen = by_names(scalar, point), {name: point[name] for name in names}
    value = scalar(**point)
    gradient = dg.grad(of)(chosen)
    close(evaluation.answer(Question("evaluate")), {"value": value})
    close(evaluation.answer(Question("value_and_gradient")), {"value": value, "gradient": gradient})
    close(evaluation.answer(Question("hessian"))["hessian"], dg.hessian(of)(chosen))
    vectors = [chosen, {name: 2 * x for name, x in chosen.items()}]
    found = evaluation.answer(Question("hvp", vectors=vectors, with_value=True))
    close(found["products"], [dg.hvp(of)(chosen, v) for v in vectors])
    close((found["value"], found["gradient"]), (value, gradient))
    paired = evaluation.answer(Question("hvp", vectors=vectors, cotangents=[3.0], with_value=True))
    close(paired["products"], [{k: 3 * p for k, p in product.items()} for product in found["products"]])
    close(paired["gradient"], {name: 3 * g for name, g in gradient.items()})


@pytest.mark.parametrize("kind", KINDS)
def test_products_of_a_function_of_any_value(kind: Any, point: dict[str, Any], rng: np.random.Generator) -> None:
    evaluation = kind(vector, point, ["x", "y"])
    of = by_names(vector, point)
    value, pullback = dg.vjp(of, point)
    cotangents = [dg.autograd.tree.map(lambda y: rng.normal(size=np.shape(y)), value) for _ in range(2)]
    found = evaluation.answer(Question("vjp", cotangents=cotangents, with_value=True))
    close(found, {"gradients": [pullback(c)[0] for c in cotangents], "value": value})
    tangents = [point, {"x": point["y"]}, {}]
    whole = [{**dict.fromkeys("xy", np.zeros(4)), **t} for t in tangents]
    pushed = evaluation.answer(Question("jvp", tangents=tangents, with_value=True))
    close(pushed, {"tangents": [dg.jvp(of, (point,), (t,))[1] for t in whole], "value": value})
    close(evaluation.answer(Question("jacobian"))["jacobian"], dg.jacobian(of)(point))


def test_second_tangents_give_second_derivatives_along_both(point: dict[str, Any]) -> None:
    evaluation = Evaluation(scalar, point, ["x", "y"])
    first, second = {"x": point["y"], "y": point["x"]}, {"x": point["x"]}
    found = evaluation.answer(Question("jvp", tangents=[first], second_tangents=[second], with_value=True))
    product = dg.hvp(by_names(scalar, point))(point, first)
    close(found["tangents"][0], np.sum(product["x"] * second["x"]))
    close(found["value"], scalar(**point))


def test_a_session_runs_the_function_once(point: dict[str, Any]) -> None:
    calls = []

    def counted(x: Any, y: Any) -> Any:
        calls.append(1)
        return np.sin(x) * y

    kept = Linearisation(counted, point, ["x", "y"])
    for _ in range(3):
        kept.answer(Question("evaluate"))
        kept.answer(Question("vjp", cotangents=[point["x"]]))
        kept.answer(Question("jvp", tangents=[point]))
        kept.answer(Question("jacobian"))
    assert len(calls) == 1


def test_by_fewer_arguments_a_session_linearises_once_more(point: dict[str, Any]) -> None:
    kept = Linearisation(scalar, point, ["x", "y"])
    assert kept.but(["x", "y"]) is kept
    assert kept.but(["x"]) is kept.but(["x"])
    assert list(kept.but(["x"]).answer(Question("value_and_gradient"))["gradient"]) == ["x"]


def test_complex_functions_follow_the_convention_of_steepest_ascent(rng: np.random.Generator) -> None:
    z = rng.normal(size=3) + 1j * rng.normal(size=3)
    c = rng.normal(size=3) + 1j * rng.normal(size=3)
    evaluation = Evaluation(lambda z: z * z, {"z": z}, ["z"])
    close(evaluation.answer(Question("vjp", cotangents=[c]))["gradients"][0]["z"], c * np.conj(2 * z))
    found = evaluation.answer(Question("hvp", vectors=[{"z": z}], cotangents=[c], with_value=True))
    close(found["gradient"]["z"], c * np.conj(2 * z))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", ["value_and_gradient", "hessian", "hvp"])
def test_what_only_a_scalar_has_is_refused_for_others(kind: Any, body: str, point: dict[str, Any]) -> None:
    evaluation = kind(lambda x, y: x * y, point, ["x"])
    with pytest.raises(GradientError, match="scalar"):
        evaluation.answer(Question(body, vectors=[{"x": point["x"]}]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_cotangent_that_is_not_like_the_value_is_refused(kind: Any, point: dict[str, Any]) -> None:
    evaluation = kind(vector, point, ["x"])
    with pytest.raises(Refused, match=r'cotangents\[1\].*\["first"\]: expected float64\[4\], got float64\[3\]'):
        good = {"first": np.ones(4), "second": (1.0, np.ones(2))}
        evaluation.answer(Question("vjp", cotangents=[good, {**good, "first": np.ones(3)}]))
