"""What `distgrad simulate` predicts, beside what real steps take:

    python -m tests.benchmarks.predicted [sleeping] [computing]

A run by `1f1b` is measured, and what each schedule would take is predicted from it; each schedule is then run by
itself.

- sleeping: stages sleep in place of computing, so that as many workers as there are get the time they ask for, on any
  machine; all else is real: processes, messages, schedules. Stages are uneven, and calls and both kinds of gradients
  take different times.
- computing: the transformer blocks of `tests.benchmarks.pipeline` on two workers, one BLAS thread each. Wants a machine
  with two cores that has nothing else to do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

import distgrad as dg
from distgrad.coordinator.training.batches import Microbatch
from distgrad.coordinator.training.job import Job
from distgrad.coordinator.training.predict import Rehearsal, predictions
from distgrad.coordinator.training.trainer import place_shards
from distgrad.show.schedules import measured_text, predictions_text

from . import pipeline

MICROBATCHES = 16
# Seconds of a call, of the gradient of its input, and of that of its parameters.
STAGES = [(0.010, 0.014, 0.009), (0.012, 0.012, 0.012), (0.008, 0.012, 0.010), (0.012, 0.016, 0.010)]
PLACES = {"a row over 4": "0123", "a row over 2": "0011", "rounds over 2": "0101"}


def sleeping(places: Sequence[str]) -> Job:
    """Stages that sleep, each on its place."""
    names = [f"stage{k}" for k in range(len(STAGES))]
    calls = [f"{name}.{'loss' if name == names[-1] else 'forward'}" for name in names]
    return Job.of(
        name="sleeping",
        steps=1,
        microbatches=MICROBATCHES,
        shard=[
            {
                "name": name,
                "program": "sleeping.py:Stage",
                "worker": worker,
                "config": dict(zip(("forward", "gradient", "weight"), seconds, strict=True)),
            }
            for name, worker, seconds in zip(names, places, STAGES, strict=True)
        ],
        pipeline={"forward": calls, "schedule": "1f1b"},
        optimizer={"kind": "SGD", "settings": {"lr": 0.1}},
    )


def sleepers_batch() -> Sequence[Microbatch]:
    x = np.ones((MICROBATCHES, 2, 4), np.float32)
    return [Microbatch(piece, piece, 1 / MICROBATCHES) for piece in x]


def blocks_batch() -> Sequence[Microbatch]:
    return [replace(piece, share=1 / MICROBATCHES) for piece in pipeline.batch()[:MICROBATCHES]]


def compare(label: str, job: Job, pieces: Sequence[Microbatch]) -> None:
    """Prints what was measured, and each schedule's prediction and truth."""
    with dg.LocalCluster(job.cluster.workers, pipeline.PROGRAMS) as cluster:
        shards = place_shards(cluster, job)
        optimizer = cluster.optimizer(job.optimizer.rule(), list(shards.values()), "job")
        rehearsal = Rehearsal(cluster, job, shards, optimizer, pieces)
        measured = rehearsal.measure("1f1b")
        found = predictions(measured)
        achieved = {one.schedule.name: rehearsal.measure(one.schedule.name) for one in found}
    print(f"{label} workers (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
    print(measured_text(measured))
    print(predictions_text(found, achieved), flush=True)


def main(kinds: Sequence[str]) -> None:
    places = {label: tuple(f"w{place}" for place in row) for label, row in PLACES.items()}
    if "sleeping" in kinds:
        for label, workers in places.items():
            compare(f"sleeping, {label}", sleeping(workers), sleepers_batch())
    if "computing" in kinds:
        for label in ("a row over 2", "rounds over 2"):
            job = replace(pipeline.job("blocks", places[label], "1f1b"), microbatches=MICROBATCHES)
            compare(f"computing, {label}", job, blocks_batch())


if __name__ == "__main__":
    main(sys.argv[1:] or ["sleeping", "computing"])
