"""What `distgrad simulate` predicts, beside what real steps take:

    python -m tests.benchmarks.predicted

Stages sleep in place of computing, so that as many workers as there are get the time they ask for, on any machine; all
else is real: processes, messages, schedules. The run that predictions are made from is one by `1f1b`; each schedule is
then run by itself. Stages are uneven, and calls and both kinds of gradients take different times.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import distgrad as dg
from distgrad.coordinator.training.batches import Microbatch
from distgrad.coordinator.training.job import Job
from distgrad.coordinator.training.predict import Rehearsal, predictions
from distgrad.coordinator.training.trainer import place_shards
from distgrad.show.schedules import measured_text, predictions_text

PROGRAMS = Path(__file__).parent / "programs"
MICROBATCHES = 16
# Seconds of a call, of the gradient of its input, and of that of its parameters.
STAGES = [(0.010, 0.014, 0.009), (0.012, 0.012, 0.012), (0.008, 0.012, 0.010), (0.012, 0.016, 0.010)]
PLACES = {"a row over 4": "0123", "a row over 2": "0011", "rounds over 2": "0101"}


def job(places: str) -> Job:
    names = [f"stage{k}" for k in range(len(STAGES))]
    calls = [f"{name}.{'loss' if name == names[-1] else 'forward'}" for name in names]
    return Job.of(
        name="sleeping",
        steps=1,
        microbatches=MICROBATCHES,
        cluster={"workers": [f"w{k}" for k in sorted(set(places))], "programs": str(PROGRAMS)},
        shard=[
            {
                "name": name,
                "program": "sleeping.py:Stage",
                "worker": f"w{place}",
                "config": dict(zip(("forward", "gradient", "weight"), seconds, strict=True)),
            }
            for name, place, seconds in zip(names, places, STAGES, strict=True)
        ],
        pipeline={"forward": calls, "schedule": "1f1b"},
        optimizer={"kind": "SGD", "settings": {"lr": 0.1}},
    )


def batch() -> Sequence[Microbatch]:
    x = np.ones((MICROBATCHES, 2, 4), np.float32)
    return [Microbatch(piece, piece, 1 / MICROBATCHES) for piece in x]


def main() -> None:
    for label, places in PLACES.items():
        made = job(places)
        with dg.LocalCluster(made.cluster.workers, PROGRAMS) as cluster:
            shards = place_shards(cluster, made)
            optimizer = cluster.optimizer(made.optimizer.rule(), list(shards.values()), "job")
            rehearsal = Rehearsal(cluster, made, shards, optimizer, batch())
            measured = rehearsal.measure("1f1b")
            found = predictions(measured)
            achieved = {one.schedule.name: rehearsal.measure(one.schedule.name) for one in found}
        print(f"{label} workers (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
        print(measured_text(measured))
        print(predictions_text(found, achieved), flush=True)


if __name__ == "__main__":
    main()
