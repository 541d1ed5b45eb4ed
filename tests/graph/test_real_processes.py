"""Every program of this folder on workers in processes of their own, over every lane."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.faults.world import World, quick_settings, world

from . import test_higher_order, test_semantics, test_semantics_of_backward, test_tangents, test_unusual
from .worlds import WORKERS, ClusterWorld, Factories, LocalWorld, Program, same

PROGRAMS: dict[str, tuple[Factories, Program]] = {
    **test_semantics.PROGRAMS,
    **test_semantics_of_backward.PROGRAMS,
    **{name: (test_higher_order.SHARDS, run) for name, run in test_higher_order.PROGRAMS.items()},
    **{name: (test_unusual.SHARDS, run) for name, run in test_unusual.PROGRAMS.items()},
    **{name: (test_tangents.SHARDS, run) for name, run in test_tangents.PROGRAMS.items()},
}
LANES = {"unix": ("unix",), "tcp": ("tcp",), "grpc": ()}


class LoopbackWorld(World):
    """Workers that listen at ports of this machine, with the shards of this folder."""

    programs = Path(__file__).parent / "programs"

    def address(self, name: str) -> str:
        return "127.0.0.1:0"


class ProcessWorld(ClusterWorld):
    """A program's own shards among those of others, on real workers."""

    def __init__(self, found: World, program: str, factories: Factories) -> None:
        self.home = found.driver.process
        self.names = list(factories)
        self.variables = {}
        self._handles = {}
        for k, (name, make) in enumerate(factories.items()):
            kind, *arguments = (make.func, *make.args) if isinstance(make, partial) else (make,)
            config = {"arguments": [np.dtype(a).name if isinstance(a, type) else a for a in arguments]}
            program_file = f"served.py:{kind.__name__}"
            self._handles[name] = found.driver.place(f"{program}.{name}", program_file, f"w{k % WORKERS}", config)

    def shard(self, name: str) -> Any:
        return self._handles[name]


@pytest.fixture(scope="module", params=LANES.values(), ids=LANES)
def found(request: pytest.FixtureRequest) -> Iterator[World]:
    workers = [f"w{k}" for k in range(WORKERS)]
    with world(*workers, settings=quick_settings(fast_lanes=request.param), kind=LoopbackWorld) as found:
        yield found
        found.assert_nothing_is_held()


@pytest.fixture(scope="module")
def bits() -> dict[str, Any]:
    """What each program gave over the first lane."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_means_the_same_on_real_processes(found: World, name: str, bits: dict[str, Any]) -> None:
    factories, run = PROGRAMS[name]
    observed = run(ProcessWorld(found, name, factories))
    same(observed, run(LocalWorld(factories)), "against one process", exact=False)
    same(observed, bits.setdefault(name, observed), "against another lane", exact=True)


def test_every_program_has_a_name_of_its_own() -> None:
    modules = (test_semantics, test_semantics_of_backward, test_higher_order, test_unusual, test_tangents)
    tables = [module.PROGRAMS for module in modules]
    assert sum(map(len, tables)) == len(PROGRAMS)
