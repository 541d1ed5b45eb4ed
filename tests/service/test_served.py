"""What `@dg.served` declares, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

import distgrad as dg
from distgrad.errors import ConfigError


@pytest.mark.parametrize(
    ("decorated", "message"), [(3, "declares functions and methods, not 3"), (dict, "not the class dict")]
)
def test_only_functions_and_methods_are_declared(decorated: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dg.served(decorated)
    with pytest.raises(ConfigError, match=message):
        dg.served(gives="float64")(decorated)
