"""Whether a run may go on from a checkpoint: what of the job has changed since that was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from distgrad.errors import ConfigError

from ..names import natural_order
from .job import Job, values

# Where things are and how the run is looked after, which changes no parameter.
_NO_MATTER = (
    "cluster.programs",
    "cluster.workers",
    "shard.*.worker",
    "shard.*.recompute",
    "pipeline.schedule",
    "pipeline.warm_up",
    "evaluation.*",
    "checkpoint.*",
    "recovery.*",
    "metrics.*",
    "limits.*",
)
# What makes it another model, or another way through other data: what a run comes to that goes on with it, no run from
# the beginning would come to.
_MEANING = ("seed", "shard.*", "pipeline.forward", "optimizer.kind", "data.*")


def lasting(job: Job) -> dict[str, str]:
    """The values of a job, by path, that its parameters depend on. They are saved with its checkpoints."""
    return {path: text for path, text in values(job).items() if not _is_one_of(path, _NO_MATTER)}


def compare(checkpoint: str, before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What has changed and may: "steps was 100 and is 200"; empty when nothing has.

    Arguments:
        before, now: what is `lasting` of the job. Empty `before`: it is not known.

    Raises:
        ConfigError: something has changed that must not.
    """
    paths = sorted({**before, **now}, key=natural_order) if before else []
    changed = [path for path in paths if before.get(path) != now.get(path)]
    refused = [path for path in changed if _is_one_of(path, _MEANING)]
    if refused:
        raise ConfigError(
            f"{checkpoint} was written by another job than this one: {_told(refused, before, now)}. To go on from it, "
            "give the values it had; to begin anew, give the job another checkpoint.directory"
        )
    return _told(changed, before, now)


def _is_one_of(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def _told(paths: Sequence[str], before: Mapping[str, str], now: Mapping[str, str]) -> str:
    return "; ".join(f"{path} was {before.get(path, 'absent')} and is {now.get(path, 'absent')}" for path in paths)


def in_the_way(checkpoint: str) -> ConfigError:
    """What is said of a run that is to begin where another one has left checkpoints, the newest of this path."""
    return ConfigError(
        f"there are checkpoints of an earlier run, the newest {checkpoint}. Continue it with --resume, remove it and "
        "begin anew with --fresh, or keep it and use --set checkpoint.directory=..."
    )
