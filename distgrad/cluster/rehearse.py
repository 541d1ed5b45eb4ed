"""A job's first microbatch, on a local cluster of its own: to look at, not to train."""

from __future__ import annotations

import numpy as np

from distgrad.coordinator.batches import open_batches
from distgrad.coordinator.job import Job
from distgrad.coordinator.stages import run_stages
from distgrad.coordinator.trainer import place_shards
from distgrad.graph.stitched import Graph

from .local import LocalCluster


def graph_of(job: Job) -> Graph:
    """The global graph of one microbatch, after its backward pass.

    Raises:
        ConfigError, RemoteError, WorkerLost: the job cannot be run.
    """
    piece = open_batches(job).microbatches(0)[0]
    spec = job.cluster
    with LocalCluster(spec.workers, spec.programs, blas_threads=spec.blas_threads, lossy=spec.lossy) as cluster:
        shards = place_shards(cluster, job)
        with cluster.context(step=0, microbatch=0) as context:
            loss = run_stages(shards, job.pipeline.forward, *piece.values(shards))
            context.backward(loss, gradient=np.asarray(piece.share))
            return context.graph()
