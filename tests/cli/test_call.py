"""`distgrad call` and `distgrad check`, with a server of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import distgrad as dg
from distgrad.cli.call import call
from distgrad.cli.check import check
from distgrad.errors import ConfigError, DistgradError, GradientError
from distgrad.service.block import serve
from distgrad.service.client.shell import parse_assignments, printable

PROGRAM = Path(__file__).parent.parent / "service" / "programs" / "derivatives.py"
NAMES = ("rosenbrock", "field", "wave", "single", "wrong", "undeclared")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve([f"{PROGRAM}:{name}" for name in NAMES]) as server:
        yield server.address


def run(command: Any, *words: str) -> Result:
    """As the command line runs it: what a command returns is its exit code."""
    return CliRunner().invoke(command, words, standalone_mode=False)


def rosenbrock(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


X, V = np.array([1.2, 0.7]), np.array([1.0, -1.0])
PRODUCTS = {
    "value": lambda: rosenbrock(X),
    "grad": lambda: dg.grad(rosenbrock)(X),
    "vjp": lambda: dg.grad(rosenbrock)(X) * 2,
    "jvp": lambda: dg.jvp(rosenbrock, (X,), (V,))[1],
    "hvp": lambda: dg.hvp(rosenbrock)(X, V),
    "jacobian": lambda: dg.jacobian(rosenbrock)(X),
    "hessian": lambda: dg.hessian(rosenbrock)(X),
}


@pytest.mark.parametrize("product", PRODUCTS)
def test_products_are_printed_as_json(address: str, product: str) -> None:
    vector = {"vjp": ["v=2.0"], "jvp": ["v=[1.0, -1.0]"], "hvp": ["v=[1.0, -1.0]"]}.get(product, [])
    result = run(call, address, "rosenbrock", f"--{product}", "x=[1.2, 0.7]", *vector)
    assert result.exit_code == 0, result.output
    assert np.allclose(json.loads(result.output), PRODUCTS[product]())


def test_several_values_are_printed_by_name(address: str) -> None:
    result = run(call, address, "rosenbrock", "--value-and-grad", "x=[1.2, 0.7]")
    assert json.loads(result.output).keys() == {"value", "gradient"}


def test_arrays_come_from_files_and_go_into_one(address: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "p.npz", k=2.0, m=V)
    words = [f"x=@{tmp_path}/x.npy", f"p=@{tmp_path}/p.npz", f"v=@{tmp_path}/x.npy"]
    result = run(call, address, "field", "--jvp", *words, "--out", str(tmp_path / "out.npz"))
    assert result.output == f"{tmp_path}/out.npz: jvp['a'], jvp['b']\n"
    with np.load(tmp_path / "out.npz") as found:
        assert np.allclose(found["jvp['a']"], 2 * np.cos(X) * X)
        assert np.allclose(found["jvp['b']"], 2 * np.sum(X * V * X))


def test_an_argument_is_chosen_by_name(address: str) -> None:
    words = ["x=[1.2, 0.7]", 'p={"k": 2.0, "m": [1.0, -1.0]}', 'v={"a": [1.0, 0.0], "b": 1.0}', "--wrt", "p"]
    found = json.loads(run(call, address, "field", "--vjp", *words).output)
    assert np.allclose(found["k"], np.sin(1.2))
    assert np.allclose(found["m"], X * X)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rosenbrock", "x"], "'x' is not understood: expected NAME=VALUE"),
        (["rosenbrock", "x=[1.0, 2.0]", "x=1"], "x is given twice"),
        (["rosenbrock", "x=os.getcwd()"], "neither JSON nor a Python literal"),
        (["rosenbrock", "x=@nowhere.npy"], "cannot be read"),
        (["rosenbrock", "--vjp", "x=[1.0, 2.0]"], "--vjp takes the cotangent as v=VALUE"),
        (["rosenbrock", "x=[[1.0]]"], r'arguments\["x"\]: expected float64\[n\]'),
        (["nobody", "x=1.0"], "there is no function 'nobody'"),
    ],
)
def test_what_is_wrong_with_a_call_is_said(address: str, words: list[str], message: str) -> None:
    result = run(call, address, *words)
    assert isinstance(result.exception, DistgradError)
    with pytest.raises(DistgradError, match=message):
        raise result.exception


@pytest.mark.parametrize("function", ["rosenbrock", "field", "wave", "single"])
def test_right_derivatives_are_found_right(address: str, function: str) -> None:
    result = run(check, address, function)
    assert result.return_value == 0, result.output
    assert result.output.endswith(f"the derivatives of {function} are right here\n")
    assert result.output.count("right  ") == 5


def test_wrong_derivatives_are_found_wrong(address: str) -> None:
    result = run(check, address, "wrong")
    assert result.return_value == 1
    assert "WRONG  vjp                  remainder slope 1.00, expected 2" in result.output
    assert result.output.endswith("the derivatives of wrong are WRONG here\n")


def test_nothing_is_said_of_derivatives_where_the_value_is_not_finite(address: str) -> None:
    result = run(check, address, "rosenbrock", "x=[1.0, NaN]")
    assert isinstance(result.exception, GradientError)
    assert "the value of rosenbrock is not finite here" in str(result.exception)


def test_a_point_may_be_given_and_must_be_for_arguments_that_are_not_declared(address: str) -> None:
    assert run(check, address, "undeclared", "x=[1.0, 2.0]", "--directions", "1").return_value == 0
    result = run(check, address, "undeclared")
    assert isinstance(result.exception, ConfigError)
    assert "x has no declared shape: give a value" in str(result.exception)


def test_lists_of_numbers_are_arrays_and_others_stay_lists() -> None:
    values = parse_assignments(["a=[[1, 2], [3, 4]]", "b=[1.0, [2.0]]", "c=(1.0, 'x')", "d=1+2j", "e=[]", "f=NaN"])
    assert values["a"].dtype == np.int64
    assert values["b"][0] == 1.0
    assert values["b"][1].tolist() == [2.0]
    assert values["c"] == (1.0, "x")
    assert values["d"] == 1 + 2j
    assert values["e"] == []
    assert np.isnan(values["f"])
    assert printable({"z": np.array([1 + 2j]), "n": np.float32(0.5)}) == '{"z": [[1.0, 2.0]], "n": 0.5}'
