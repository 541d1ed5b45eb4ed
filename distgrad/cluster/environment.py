"""What launchers tell the processes they start: where to join, who one is, and how many there are.

    torchrun's names    MASTER_ADDR, MASTER_PORT, RANK, WORLD_SIZE: also set by Kubeflow, DeepSpeed, Accelerate, ...
    Slurm's             SLURM_JOB_NODELIST (or SLURM_NODELIST), SLURM_PROCID, SLURM_NTASKS

The former win where both are set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from distgrad.errors import ConfigError

# Where a coordinator listens unless told otherwise.
PORT = 7400


@dataclass(frozen=True)
class Launch:
    """What the environment says.

    Attributes:
        coordinator: "HOST:PORT"; empty when it does not say.
        name: of this worker; empty when it does not say.
        workers: how many there will be; 0 when it does not say.
    """

    coordinator: str = ""
    name: str = ""
    workers: int = 0


def read_launch(environment: Mapping[str, str]) -> Launch:
    """What the launcher has said.

    Raises:
        ConfigError: a variable does not hold what it should.
    """
    rank = _number(environment, "RANK", "SLURM_PROCID")
    workers = _number(environment, "WORLD_SIZE", "SLURM_NTASKS")
    return Launch(_coordinator(environment), "" if rank is None else f"w{rank}", workers or 0)


def _coordinator(environment: Mapping[str, str]) -> str:
    if host := environment.get("MASTER_ADDR"):
        # At MASTER_PORT torchrun's own agent listens; other launchers leave it to the program.
        port = None if "TORCHELASTIC_RUN_ID" in environment else _number(environment, "MASTER_PORT")
        return f"[{host}]:{port or PORT}" if ":" in host else f"{host}:{port or PORT}"
    nodes = environment.get("SLURM_JOB_NODELIST") or environment.get("SLURM_NODELIST")
    return f"{first_host(nodes)}:{PORT}" if nodes else ""


def first_host(nodes: str) -> str:
    """The first of the hosts that Slurm writes as "rack1n[03-05,9],login": rack1n03."""
    host = re.split(r",(?![^\[]*\])", nodes)[0]
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", host)


def _number(environment: Mapping[str, str], *names: str) -> int | None:
    for name in names:
        if text := environment.get(name):
            if not text.isdecimal():
                raise ConfigError(f"the environment's {name} is {text!r}, expected a number")
            return int(text)
    return None
