"""A job's first microbatch, or a few steps of it, on a local cluster of its own: to look at, not to train."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from distgrad.coordinator.training.batches import open_batches
from distgrad.coordinator.training.job import Job
from distgrad.coordinator.training.predict import Rehearsal
from distgrad.coordinator.training.stages import run_stages
from distgrad.coordinator.training.trainer import place_shards
from distgrad.graph.stitched import Graph

from .local import LocalCluster


def graph_of(job: Job) -> Graph:
    """The global graph of one microbatch, after its backward pass.

    Raises:
        ConfigError, RemoteError, WorkerLost: the job cannot be run.
    """
    piece = open_batches(job).microbatches(0)[0]
    with _cluster_of(job) as cluster:
        shards = place_shards(cluster, job)
        with cluster.context(step=0, microbatch=0) as context:
            loss = run_stages(shards, job.pipeline.forward, *piece.values(shards))
            context.backward(loss, gradient=np.asarray(piece.share))
            return context.graph()


@contextmanager
def rehearsal(job: Job) -> Iterator[Rehearsal]:
    """What runs some steps of the job and measures them.

    Raises:
        ConfigError, RemoteError, WorkerLost: the job cannot be run.
    """
    pieces = open_batches(job).microbatches(0)
    with _cluster_of(job) as cluster:
        shards = place_shards(cluster, job)
        optimizer = cluster.optimizer(job.optimizer.rule(), list(shards.values()), name="job")
        yield Rehearsal(cluster, job, shards, optimizer, pieces)


def _cluster_of(job: Job) -> LocalCluster:
    spec = job.cluster
    return LocalCluster(spec.workers, spec.programs, blas_threads=spec.blas_threads, lossy=spec.lossy)
