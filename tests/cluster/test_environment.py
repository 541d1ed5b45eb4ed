"""What is read from the variables that launchers set."""

from __future__ import annotations

import pytest

from distgrad.cluster.environment import Launch, first_host, read_launch
from distgrad.errors import ConfigError

TORCHRUN = {"MASTER_ADDR": "node0", "MASTER_PORT": "29500", "RANK": "2", "WORLD_SIZE": "4"}
SLURM = {"SLURM_JOB_NODELIST": "gpu[3-6]", "SLURM_PROCID": "1", "SLURM_NTASKS": "8"}


@pytest.mark.parametrize(
    ("environment", "launch"),
    [
        ({}, Launch()),
        (TORCHRUN, Launch("node0:29500", "w2", 4)),
        ({**TORCHRUN, "TORCHELASTIC_RUN_ID": "none"}, Launch("node0:7400", "w2", 4)),
        ({"MASTER_ADDR": "fd00::1", "RANK": "0"}, Launch("[fd00::1]:7400", "w0")),
        (SLURM, Launch("gpu3:7400", "w1", 8)),
        ({"SLURM_NODELIST": "n1,n2", "SLURM_PROCID": "0"}, Launch("n1:7400", "w0")),
        ({**SLURM, **TORCHRUN}, Launch("node0:29500", "w2", 4)),
    ],
)
def test_a_launchers_variables_say_where_to_join_who_one_is_and_how_many_there_are(
    environment: dict[str, str], launch: Launch
) -> None:
    assert read_launch(environment) == launch


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("login", "login"),
        ("a,b", "a"),
        ("n[1-4]", "n1"),
        ("n[007,9-12],m3", "n007"),
        ("rack[2-3]n[04-08]", "rack2n04"),
        ("n[1-2]-ib,n9", "n1-ib"),
    ],
)
def test_the_first_host_of_a_list_of_nodes(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


def test_a_rank_that_is_no_number_is_named() -> None:
    with pytest.raises(ConfigError, match="the environment's RANK is 'one', expected a number"):
        read_launch({"RANK": "one"})
