"""Requests that came together get the answers that they would get alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distgrad.service.evaluator import Evaluator, Result, Work, alike
from distgrad.service.functions import Served
from tests.service.raw import answer, question

PROGRAM = """
import numpy as np

def sine(x, y=1.0):
    return np.sin(x) * y

def picky(x):
    if x[0] < 0:
        raise KeyError("negative")
    return np.sum(x)

def chosen(x, how="sum", times=1):
    return getattr(np, how)(x) * times

def root(x):
    return np.sqrt(x)

def unmapped(x):
    return np.array(sorted(float(a) for a in x))
"""


@pytest.fixture
def evaluator(tmp_path: Path) -> Evaluator:
    (tmp_path / "program.py").write_text(PROGRAM)
    return Evaluator(
        Served([f"{tmp_path}/program.py:{name}" for name in ("sine", "picky", "chosen", "root", "unmapped")]), 60.0
    )


def work(body: str, **fields: Any) -> Work:
    message, pieces, _ = question(body, fields)
    return Work(body, message, memoryview(b"".join(pieces)))


def fields(result: Result) -> dict[str, Any]:
    if result.body == "failure":
        return {"failed": result.message.exception.type}
    return answer(result.message, memoryview(b"".join(result.pieces)))


CASES = {
    "evaluate": {},
    "vjp": {"cotangents": [np.arange(3.0)], "with_respect_to": ["x"], "with_value": True},
    "jvp": {"tangents": [{"x": np.ones(3)}]},
    "jacobian": {"with_respect_to": ["x"]},
}


@pytest.mark.parametrize("body", CASES)
def test_answers_together_are_those_of_each_alone(evaluator: Evaluator, body: str, rng: np.random.Generator) -> None:
    works = [work(body, function="sine", arguments={"x": rng.normal(size=3)}, **CASES[body]) for _ in range(4)]
    assert alike(works)
    for one, result in zip(works, evaluator.answer_together(works), strict=True):
        expected, found = fields(evaluator.answer(one)), fields(result)
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            np.testing.assert_equal(found[name], value)


def test_one_that_raises_fails_alone(evaluator: Evaluator) -> None:
    works = [work("evaluate", function="picky", arguments=[np.array([k, 1.0])]) for k in (1.0, -1.0, 2.0)]
    found = [fields(result) for result in evaluator.answer_together(works)]
    assert found == [{"value": 2.0}, {"failed": "KeyError"}, {"value": 3.0}]


def test_what_cannot_be_computed_as_one_is_computed_one_by_one(evaluator: Evaluator) -> None:
    works = [work("evaluate", function="unmapped", arguments=[np.array([k, 1.0])]) for k in (3.0, -1.0)]
    found = [fields(result)["value"].tolist() for result in evaluator.answer_together(works)]
    assert found == [[1.0, 3.0], [-1.0, 1.0]]


@pytest.mark.parametrize("ways", [("sum", "sum"), ("sum", "max")])
def test_texts_and_counts_are_not_computed_with(evaluator: Evaluator, ways: tuple[str, str]) -> None:
    x = np.array([1.0, 2.0])
    works = [work("evaluate", function="chosen", arguments=[x, how, 3]) for how in ways]
    found = [fields(result)["value"] for result in evaluator.answer_together(works)]
    assert found == [3 * getattr(np, how)(x) for how in ways]


@pytest.mark.parametrize("points", [(1.0 + 0j, -1.0), (-1.0, 1.0 + 0j), (2.0, 4)])
def test_a_number_keeps_its_type_among_those_of_others(evaluator: Evaluator, points: tuple[complex, complex]) -> None:
    works = [work("evaluate", function="root", arguments=[x]) for x in points]
    for one, result in zip(works, evaluator.answer_together(works), strict=True):
        np.testing.assert_equal(fields(result), fields(evaluator.answer(one)))


@pytest.mark.parametrize("numbers", [(2.5, 2.5), (2.5, 3.5), (0.0, -0.0), (float("nan"), float("nan"))])
def test_a_number_leaves_the_dtype_of_an_array_as_it_is(evaluator: Evaluator, numbers: tuple[float, float]) -> None:
    x = np.array([1.0, 0.1], np.float32)
    works = [work("evaluate", function="chosen", arguments=[x, "sum", number]) for number in numbers]
    for one, result in zip(works, evaluator.answer_together(works), strict=True):
        found, expected = fields(result)["value"], fields(evaluator.answer(one))["value"]
        assert (found.dtype, found.tobytes()) == (np.float32, expected.tobytes())


def test_requests_that_differ_are_not_alike() -> None:
    one = work("vjp", function="sine", arguments=[1.0], cotangents=[1.0], with_respect_to=["x"])
    assert not alike([one])
    assert alike([one, one])
    for other in (
        work("evaluate", function="sine", arguments=[1.0]),
        work("vjp", function="picky", arguments=[1.0], cotangents=[1.0], with_respect_to=["x"]),
        work("vjp", function="sine", arguments=[1.0], cotangents=[1.0], with_respect_to=["y"]),
        work("vjp", function="sine", arguments=[1.0], cotangents=[1.0], with_respect_to=["x"], with_value=True),
        work("vjp", session="s", cotangents=[1.0]),
        work("close_session", session="s"),
    ):
        assert not alike([one, other])
        assert not alike([other, one])
    for body in ("linearize", "close_session"):
        same = work(body, **({"session": "s"} if body == "close_session" else {"function": "sine"}))
        assert not alike([same, same])
