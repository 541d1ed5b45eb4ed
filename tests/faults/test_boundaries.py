"""A process is killed at every boundary of the protocol: the run goes on, to the bits of an undisturbed one."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, start  # noqa: F401 - a fixture
from tests.cli.test_train import shards

from .boundaries import OF_THE_COORDINATOR, OF_WORKERS, PLAN, Plan, Strike

ROOT = Path(__file__).parents[2]
LONGEST = 500.0
#: For each kill: enough that the run is not over before the last.
STEPS = 3

#: A worker is lost first, so that there is a recovery for the coordinator to die in.
LOSS = Strike("w2", "before commit")
ONLY_WITH_COPIES = {"a copy has pinned", "a copy was made", "asked for a copy", "recovery: before copies are made"}
ONLY_WITHOUT = {"recovery: before the return is noted", "recovery: the return noted"}

ALL = {*OF_THE_COORDINATOR, *OF_WORKERS}
BOUNDARIES = {
    "from checkpoints": ALL - ONLY_WITH_COPIES,
    "from copies": ALL - ONLY_WITHOUT,
    "from checkpoints, some": {
        "after decide",
        "a checkpoint in place",
        "recovery: one shard given its state",
        "recovery: the return noted",
        "committed, and nobody told",
    },
}


def plan(boundaries: Collection[str]) -> list[Strike]:
    """These boundaries, one after the other."""
    strikes: list[Strike] = []
    for boundary in OF_THE_COORDINATOR:  # first, so that there are checkpoints for what follows
        if boundary in boundaries:
            if boundary.startswith("recovery"):
                strikes.append(LOSS)
            strikes.append(Strike("coordinator", boundary))
    for boundary in OF_WORKERS:
        if boundary in boundaries:
            if boundary == "given a state":
                strikes.append(Strike("w1", "before commit"))
            if boundary == "asked for a copy":
                strikes.append(Strike("w0", "before prepare"))  # whose buddy is w1
            strikes.append(Strike("w1", boundary))
    return strikes


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "policy", [pytest.param("from checkpoints", marks=pytest.mark.long), "from copies", "from checkpoints, some"]
)
def test_a_kill_at_every_boundary_changes_no_bit(
    start: Callable[..., Run],  # noqa: F811
    tmp_path: Path,
    policy: str,
) -> None:
    replicate = policy == "from copies"
    strikes = Plan.write(tmp_path / "plan", plan(BOUNDARIES[policy]))
    steps = STEPS * (len(strikes.strikes) + 1)
    settings = ["--set", f"steps={steps}", "--set", "checkpoint.every=3"]
    undisturbed = start("--quiet", *settings, folder="undisturbed")
    mortal = [f'shard.{name}.program="mortal.py:{kind}"' for name, kind in SHARDS.items()]
    mortal += ['data.program="mortal.py:Points"', f"recovery.replicate={str(replicate).lower()}"]
    mortal += ["recovery.max_failures=1000"]
    environment = {PLAN: str(tmp_path / "plan"), "PYTHONPATH": str(ROOT)}
    run = start("--json", *settings, *(it for one in mortal for it in ("--set", one)), environment=environment)
    out, _ = run.end(LONGEST)
    undisturbed.end(LONGEST)
    events = [json.loads(line) for line in out.splitlines()]
    print("\n".join(table(strikes, events)))
    assert run.process.returncode == 0, run.errors
    assert strikes.struck == len(strikes.strikes), f"never reached: {strikes.strikes[strikes.struck]}"
    assert shards(run, steps) == shards(undisturbed, steps)
    assert len(shards(run, steps)) == 3
    log = (run.directory / "logs" / "coordinator.log").read_text()
    assert "came out differently" not in log  # steps taken again, as the journal says of them
    if replicate:  # but for once, when an owner and its buddy are lost together
        assert sum(1 for event in events if event["event"] == "recovered" and event["checkpoint"]) <= 1
    assert run.left_behind == []


SHARDS = {"stem": "Stage", "middle": "Stage", "head": "Head"}


def table(plan: Plan, events: list[dict[str, Any]]) -> list[str]:
    """What became of each kill: boundary, steps taken before, and where the run went on, and from what."""
    rows, taken = [], 0
    strikes = iter(plan.strikes)
    for event in events:
        if event["event"] == "step":
            taken = event["step"]
        elif event["event"] == "failure":
            rows.append([str(next(strikes, "none of the plan")), str(taken), "", ""])
        elif event["event"] == "recovered" and rows:
            rows[-1][2:] = [str(event["step"]), event["source"]]
    rows.insert(0, ["killed at", "after step", "goes on after", "from"])
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
