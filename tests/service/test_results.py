"""What functions return is held against what they are declared to give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from distgrad.service.evaluator import Evaluator, Result, Work
from distgrad.service.failures import Refused
from distgrad.service.functions import Description, Served
from distgrad.service.results import held_to
from distgrad.service.specs import parse_spec
from tests.service.raw import PROGRAM, answer, question

X, COTANGENT = np.arange(1.0, 4.0), {"y": np.ones(3), "total": 1.0}
PRODUCTS = {
    "evaluate": {},
    "vjp": {"cotangents": [COTANGENT]},
    "jvp": {"tangents": [{"x": X}]},
    "jacobian": {},
    "hvp": {"vectors": [{"x": X}], "cotangents": [COTANGENT]},
    "linearize": {},
}
RETURNED = {
    "length": 'value["y"]: declared float64[n] with n = 3, returned float64[2]',
    "axes": 'value["total"]: declared float64[], returned float64[3]',
    "name": "value: declared a dict with ['total', 'y'], returned one with ['sum', 'y']",
    "kind": "value: declared a dict with ['total', 'y'], returned a tuple of 2",
    "nothing": "value: declared a dict with ['total', 'y'], returned None",
    "text": 'value["y"]: declared float64[n], returned str',
    "dtype": 'value["y"]: declared float64[n], returned complex128[3]',
}


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator(Served([f"{PROGRAM}:promises", f"{PROGRAM}:sine"]), 60.0)


def asked(evaluator: Evaluator, body: str, fault: str) -> Result:
    fields: dict[str, Any] = {"arguments": {"x": X, "fault": fault}, **PRODUCTS[body]}
    if body not in ("evaluate", "jvp"):
        fields["with_respect_to"] = ["x"]
    message, pieces, _ = question(body, {"function": "promises", **fields})
    return evaluator.answer(Work(body, message, memoryview(b"".join(pieces))))


@pytest.mark.parametrize("body", PRODUCTS)
@pytest.mark.parametrize("fault", RETURNED)
def test_another_result_is_told_with_what_was_declared_and_returned(
    evaluator: Evaluator, body: str, fault: str
) -> None:
    result = asked(evaluator, body, fault)
    assert result.body == "failure"
    assert result.message.message == f"promises did not return what it is declared to give: {RETURNED[fault]}"
    assert (result.message.code, result.message.exception.type) == (13, "WrongResult")
    assert [v.field for v in result.message.violations] == [RETURNED[fault].partition(":")[0]]


@pytest.mark.parametrize("body", PRODUCTS)
def test_a_result_as_declared_is_passed_on(evaluator: Evaluator, body: str) -> None:
    assert asked(evaluator, body, "").body == body


@pytest.mark.parametrize("body", ["evaluate", "linearize"])
def test_a_result_has_the_declared_dtypes_where_it_converts_to_them(evaluator: Evaluator, body: str) -> None:
    result = asked(evaluator, body, "less")
    value = answer(result.message, memoryview(b"".join(result.pieces)))["value"]
    assert [value["y"].dtype, value["total"].dtype] == [np.float64, np.float64]
    np.testing.assert_array_equal(value["y"], X)


def test_one_of_several_computed_together_is_told_too(evaluator: Evaluator) -> None:
    message, pieces, _ = question("evaluate", {"function": "promises", "arguments": {"x": X, "fault": "length"}})
    work = Work("evaluate", message, memoryview(b"".join(pieces)))
    assert [result.body for result in evaluator.answer_together([work, work])] == ["failure", "failure"]


@pytest.mark.parametrize(("returned", "got"), [(None, "None"), ("text", "str"), ([1.0], "a list of 1")])
def test_what_is_no_array_is_told_where_a_single_one_is_declared(returned: Any, got: str) -> None:
    gives = Description("f", "", {}, frozenset(), parse_spec("float64", "the result"), False, 0.0)
    with pytest.raises(Refused, match=f"declared float64\\[\\], returned {got}"):
        held_to(gives, lambda: returned, {})()
    assert held_to(gives, lambda: 3.0, {})() == 3.0
