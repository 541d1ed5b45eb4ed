"""Which worker holds which shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from distgrad.errors import ConfigError
from distgrad.wire import same_data

from .names import natural_order, suggestion


@dataclass(frozen=True)
class Placement:
    """Everything needed to build a shard, on its worker or, after that one's loss, on its successor.

    Attributes:
        shard: name of the shard.
        program: "FILE.py:CLASS", relative to the worker's folder of programs.
        worker: name of the worker; its incarnation may change.
        config: keyword arguments of the class.
        seed: of the job; initial weights derive from it and the names of shard and parameter, never from the worker.
    """

    shard: str
    program: str
    worker: str
    config: Mapping[str, Any]
    seed: int

    def is_same(self, other: Placement) -> bool:
        """Whether the two would build the same shard in the same place. Configs may hold arrays."""
        return same_data(vars(self), vars(other))


class Placements:
    """The table of placed shards, in order of placing."""

    def __init__(self) -> None:
        self._placements: dict[str, Placement] = {}

    def place(
        self, shard: str, program: str, config: Mapping[str, Any], seed: int, workers: Sequence[str], wanted: str = ""
    ) -> Placement:
        """Chooses a worker for the shard and notes it. Placing the same shard in the same way again changes nothing.

        Args:
            workers: names of the living workers.
            wanted: the worker to use; empty: the one with the fewest shards.

        Raises:
            ConfigError: no such worker, or the name is held by a different shard.
        """
        held = self._placements.get(shard)
        if held is not None:
            if held.is_same(Placement(shard, program, wanted or held.worker, config, seed)):
                return held
            raise ConfigError(
                f"the name '{shard}' is held by a shard of {held.program} on {held.worker} with config "
                f"{dict(held.config)} and seed {held.seed}; asked for {program} on {wanted or 'any worker'} with "
                f"config {dict(config)} and seed {seed}. Choose another name"
            )
        worker = choose_worker(workers, self.counts(), wanted)
        self._placements[shard] = Placement(shard, program, worker, config, seed)
        return self._placements[shard]

    def move(self, shard: str, worker: str) -> None:
        """From now on the shard is another worker's to hold."""
        self._placements[shard] = replace(self._placements[shard], worker=worker)

    def remove(self, shard: str) -> None:
        """Forgets a shard, for one that its worker failed to build."""
        self._placements.pop(shard, None)

    def counts(self) -> Counter[str]:
        """Worker → number of shards."""
        return Counter(placement.worker for placement in self)

    def on(self, worker: str) -> list[Placement]:
        """The shards of a worker: what its successor must build."""
        return [placement for placement in self if placement.worker == worker]

    def __getitem__(self, shard: str) -> Placement:
        """
        Raises:
            ConfigError: no such shard.
        """
        if shard in self._placements:
            return self._placements[shard]
        hint = suggestion(shard, self._placements) or f"; placed are: {', '.join(self._placements) or 'none'}"
        raise ConfigError(f"no shard is named '{shard}'{hint}")

    def __contains__(self, shard: object) -> bool:
        return shard in self._placements

    def __iter__(self) -> Iterator[Placement]:
        return iter(self._placements.values())

    def __len__(self) -> int:
        return len(self._placements)

    def __repr__(self) -> str:
        return f"<Placements {', '.join(f'{it.shard} on {it.worker}' for it in self) or 'empty'}>"


def choose_worker(workers: Sequence[str], counts: Mapping[str, int], wanted: str = "") -> str:
    """The wanted worker, else the one with the fewest shards, of these the first by name (w2 before w10).

    Raises:
        ConfigError: there is no worker, or not the one wanted.
    """
    known = ", ".join(sorted(workers, key=natural_order)) or "none"
    if wanted and wanted not in workers:
        raise ConfigError(f"no living worker is named '{wanted}'; living workers: {known}")
    if not workers:
        raise ConfigError("there is no living worker to place a shard on; start one with `distgrad worker --join`")
    return wanted or min(workers, key=lambda worker: (counts.get(worker, 0), natural_order(worker)))
