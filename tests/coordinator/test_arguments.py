"""What a client is given and cannot use is refused by name, before anything is sent or waited for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import distgrad as dg
from distgrad.coordinator.client import Client, PlacedShard
from distgrad.errors import ConfigError
from tests.coordinator.cluster import PROGRAMS, Cluster, cluster


@pytest.fixture(scope="module")
def made() -> Iterator[tuple[Cluster, Client]]:
    with cluster(PROGRAMS, "w0") as found:
        yield found


@pytest.fixture(scope="module")
def shard(made: tuple[Cluster, Client]) -> PlacedShard:
    return made[1].place("a", "parts.py:Sum")


SGD: Any = dg.optim.SGD(1.0)
CALLS: dict[str, Callable[[Client, Any], object]] = {
    r"place\(\) got name=3, expected text": lambda client, shard: client.place(3, "parts.py:Sum"),
    r"place\(\) got seed=-1, expected a whole number of at least 0": lambda client, shard: client.place(
        "b", "parts.py:Sum", seed=-1
    ),
    r"place\(\) got seed=1.5, expected a whole number": lambda client, shard: client.place(
        "b", "parts.py:Sum", seed=1.5
    ),
    r"place\(\) got config=\[\], expected a dict": lambda client, shard: client.place("b", "parts.py:Sum", config=[]),
    r"shard\(\) got name=None, expected text": lambda client, shard: client.shard(None),
    r"optimizer\(\) got name=3, expected text": lambda client, shard: client.optimizer(SGD, [shard], name=3),
    r"optimizer\(\) got shards=None, expected a list": lambda client, shard: client.optimizer(SGD, None),
    r"save\(\) got directory=None, expected the path of a directory": lambda client, shard: client.save(None),
    r"save\(\) got directory='', expected the path of a directory": lambda client, shard: client.save(""),
    r"save\(\) got keep=-1, expected a whole number": lambda client, shard: client.save("d", keep=-1),
    r"save\(\) got extra=\[3\], expected a dict": lambda client, shard: client.save("d", [3]),
    r"restore\(\) got directory=None, expected the path of a directory": lambda client, shard: client.restore(None),
    r"recover\(\) got patience=nan, expected a number of at least 0": lambda client, shard: client.recover(
        patience=math.nan
    ),
    r"recover\(\) got standby_after=-1, expected a number": lambda client, shard: client.recover(standby_after=-1),
    r"recover\(\) got steps=0, expected a whole number of at least 1": lambda client, shard: client.recover(steps=0),
    r"wait_for_workers\(\) got names='w0', expected a list": lambda client, shard: client.wait_for_workers("w0", 1.0),
    r"wait_for_workers\(\) got timeout=nan, expected a number": lambda client, shard: client.wait_for_workers(
        ["w9"], math.nan
    ),
    r"context\(\) got step='x', expected a whole number": lambda client, shard: client.context(step="x"),
    r"context\(\) got microbatch=-1, expected a whole number": lambda client, shard: client.context(microbatch=-1),
    r"load_state_dict\(\) got state=None, expected a dict": lambda client, shard: shard.load_state_dict(None),
}


@pytest.mark.parametrize("message", CALLS)
def test_an_argument_of_a_wrong_kind_is_named(made: tuple[Cluster, Client], shard: PlacedShard, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CALLS[message](made[1], shard)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip_norm": math.nan}, r"step\(\) got clip_norm=nan, expected a number of at least 0"),
        ({"clip_norm": -1.0}, r"step\(\) got clip_norm=-1.0, expected a number of at least 0"),
        ({"learning_rate": math.nan}, r"step\(\) got learning_rate=nan, expected a number of at least 0"),
        ({"learning_rate": "x"}, r"step\(\) got learning_rate='x', expected a number of at least 0"),
    ],
)
def test_a_step_that_would_not_clip_or_would_spoil_the_parameters_is_not_taken(
    made: tuple[Cluster, Client], shard: PlacedShard, arguments: dict[str, Any], message: str
) -> None:
    client = made[1]
    optimizer = client.optimizer(SGD, [shard], "sgd")
    with client.context() as context, pytest.raises(ConfigError, match=message):
        optimizer.step(context, **arguments)
    assert optimizer.version == 0


def test_a_step_takes_no_context_twice_and_none_of_another_client(
    made: tuple[Cluster, Client], shard: PlacedShard
) -> None:
    client = made[1]
    optimizer = client.optimizer(SGD, [shard], "sgd")
    with client.context() as context, pytest.raises(ConfigError, match="a context twice"):
        optimizer.step(context, context)
    with made[0].client("another").context() as context, pytest.raises(ConfigError, match="another client's"):
        optimizer.step(context)
    assert optimizer.version == 0


def test_a_directory_may_be_a_path(made: tuple[Cluster, Client], shard: PlacedShard, tmp_path: Path) -> None:
    made[1].save(tmp_path)
    made[1].restore(tmp_path)
    made[1].recover(tmp_path)
