"""Specs are read from text, told to clients, and checked against values that were not yet decoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from distgrad.errors import ConfigError
from distgrad.service.specs import (
    Anything,
    ArraySpec,
    as_exact,
    check,
    converted,
    example,
    moves,
    outline_of,
    parse_spec,
    resolved,
    spec_from_pb,
    spec_to_pb,
)

WRITTEN = [
    ("float64[n, 3]", ArraySpec("float64", ("n", 3))),
    ("float64", ArraySpec("float64", ())),
    ("float64[]", ArraySpec("float64", ())),
    ("int8[...]", ArraySpec("int8", None)),
    ("[n]", ArraySpec("", ("n",))),
    ("any", Anything()),
    ("state: complex64[n]", ArraySpec("complex64", ("n",), "state")),
    ({"a": ["float32", ("any",)]}, {"a": [ArraySpec("float32", ()), (Anything(),)]}),
]


@pytest.mark.parametrize(("written", "spec"), WRITTEN)
def test_a_spec_is_read_from_text_and_comes_to_clients_as_it_is(written: Any, spec: Any) -> None:
    assert parse_spec(written, "x") == spec
    assert spec_from_pb(spec_to_pb(spec)) == spec


@pytest.mark.parametrize("written", ["", "float65[n]", "float64[n", "float64[n-1]", 3, "float64[n] and more", None])
def test_what_is_no_spec_is_refused_with_the_argument_named(written: Any) -> None:
    with pytest.raises(ConfigError, match=r"argument x"):
        parse_spec(written, "argument x")


FITS = [
    ("float64[n]", np.zeros(3)),
    ("float64[n]", np.zeros(3, np.float32)),
    ("float64[n]", np.zeros(3, np.int32)),
    ("float64[]", 1),
    ("float64[]", 1.5),
    ("float64", np.float64(2)),
    ("complex64", 1j),
    ("complex128[...]", np.zeros((2, 2))),
    ("float32", 0.1),
    ("uint8", 255),
    ("[n, n]", np.zeros((2, 2), np.int8)),
    ("bool[n]", np.zeros(2, bool)),
    ("any", None),
    ({"a": "float64[n]", "b": ["float64[n]"]}, {"a": np.zeros(2), "b": [np.ones(2)]}),
]
DOES_NOT_FIT = [
    ("float64[n]", np.zeros((3, 1)), "x: expected float64[n], got float64[3, 1]"),
    ("float64[3]", np.zeros(2), "x: expected float64[3], got float64[2]"),
    ("float32[n]", np.zeros(3), "x: expected float32[n], got float64[3]"),
    ("float64[n]", np.zeros(3, complex), "x: expected float64[n], got complex128[3]"),
    ("uint8", 256, "x: expected uint8[], got int[]"),
    ("int64", 1.0, "x: expected int64[], got float[]"),
    ("float64", "1", "x: expected float64[], got str"),
    ("float64", None, "x: expected float64[], got None"),
    ("[n, n]", np.zeros((2, 3)), "x: expected any dtype [n, n] with n = 2, got float64[2, 3]"),
    ({"a": "float64"}, {"b": 1.0}, "x: expected a dict with ['a'], got one with ['b']"),
    ({"a": "float64"}, [1.0], "x: expected a dict with ['a'], got a list of 1"),
    (["float64", "float64"], [1.0], "x: expected 2 items, got 1"),
    (["float64"], (1.0,), "x: expected a list of 1, got a tuple of 1"),
    ({"a": "[n]", "b": "[n]"}, {"a": np.ones(2), "b": np.ones(3)}, 'x["b"]: expected any dtype [n] with n = 2'),
]


@pytest.mark.parametrize(("written", "value"), FITS)
def test_a_value_that_fits_is_converted_without_loss(written: Any, value: Any) -> None:
    spec = parse_spec(written, "x")
    assert check(spec, outline_of(value), {}, "x") == []
    taken = converted(spec, value)
    if not isinstance(spec, Anything):
        assert outline_of(taken) == resolved(spec, outline_of(value))


@pytest.mark.parametrize(("written", "value", "said"), DOES_NOT_FIT)
def test_a_value_that_does_not_fit_is_told_where_and_what_was_expected(written: Any, value: Any, said: str) -> None:
    (violation,) = check(parse_spec(written, "x"), outline_of(value), {}, "x")
    assert str(violation).startswith(said)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.zeros(2), True),
        (1.0, True),
        (1j, True),
        (1, False),
        (np.zeros(2, int), False),
        ({"a": np.zeros(2), "b": 1}, False),
        ({"a": np.zeros(2), "b": None}, True),
        ([], False),
        ("text", False),
    ],
)
def test_values_of_floating_point_and_complex_numbers_alone_have_derivatives(value: Any, expected: bool) -> None:
    assert moves(outline_of(value)) is expected


def test_directions_are_as_the_value_they_belong_to() -> None:
    spec = as_exact(outline_of({"w": np.zeros((2, 3), np.float32), "s": 2.0}))
    assert check(spec, outline_of({"w": np.ones((2, 3), np.float32), "s": 1.0}), {}, "t") == []
    assert len(check(spec, outline_of({"w": np.ones((3, 2), np.float32), "s": np.ones(2)}), {}, "t")) == 2


@pytest.mark.parametrize("written", ["float64[n, 3]", {"a": ["int8[n]", ("float32",)]}, "complex64[n, n]"])
def test_an_example_of_a_spec_fits_it(written: Any) -> None:
    found = example(parse_spec(written, "x"), {"n": 5})
    assert check(parse_spec(written, "x"), outline_of(found), {"n": 5}, "x") == []


@pytest.mark.parametrize("written", ["float64[m]", "float64[...]", "[n]", ["float64[n]", "any"]])
def test_there_is_no_example_where_something_is_open(written: Any) -> None:
    assert example(parse_spec(written, "x"), {"n": 5}) is None
