"""Every module of the package can be imported, and the examples in its docstrings say what happens."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from tests.test_layout import MODULES, ROOT

# Modules that cannot be imported without a package that only some users have.
NEEDS = {
    "distgrad.cluster.bench_torch": "torch",
    "distgrad.cluster.ray": "ray",
    "distgrad.cluster.ray_worker": "ray",
    "distgrad.cluster.ray_workers": "ray",
    "distgrad.service.client.in_jax": "jax",
    "distgrad.service.client.in_torch": "torch",
}
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("name", [module_name(path) for path in MODULES if path.stem != "__main__"])
def test_examples_in_docstrings_are_true(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    assert failed == 0
