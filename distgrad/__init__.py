"""Differentiate programs whose pieces live on different machines.

The local engine is here at once. What needs a network is imported when it is first asked for (`LAZY`), so that
`import distgrad` stays quick and free of grpc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distgrad.autograd import check, ops
from distgrad.autograd import operators as _operators  # noqa: F401  (tensors learn Python's operators)
from distgrad.autograd.allocator import keep_freed_memory
from distgrad.autograd.backward import backward
from distgrad.autograd.checkpoint import checkpoint
from distgrad.autograd.custom import custom_jvp, custom_vjp
from distgrad.autograd.jacobians import hessian, hvp, jacobian, per_example_grad
from distgrad.autograd.modes import detect_anomaly, enable_grad, no_grad
from distgrad.autograd.reverse import vjp
from distgrad.autograd.tensor import Tensor, tensor
from distgrad.autograd.transforms import grad, jvp, linearize, stop_gradient, value_and_grad
from distgrad.autograd.vmap import vmap
from distgrad.errors import DistgradError

__version__ = "0.1.0"

# Names resolved on first use: "module" for a module, "module:attribute" for what it defines.
LAZY: dict[str, str] = {
    "nn": "distgrad.nn",
    "optim": "distgrad.optim",
    "Shard": "distgrad.worker.shard:Shard",
    "remote": "distgrad.worker.shard:remote",
    "served": "distgrad.service.served:served",
    "serve": "distgrad.service.block:serve",
    "LocalCluster": "distgrad.cluster.local:LocalCluster",
    "RayCluster": "distgrad.cluster.ray:RayCluster",
    "connect": "distgrad.cluster.connect:connect",
    "deadline": "distgrad.graph.deadlines:deadline",
    "Job": "distgrad.coordinator.training.job:Job",
    "Trainer": "distgrad.coordinator.training.trainer:Trainer",
    "client": "distgrad.service.client:client",
    "Lossy": "distgrad.transport.settings:Lossy",
}

__all__ = [
    # Values and operations.
    "Tensor",
    "tensor",
    "ops",
    # Derivatives.
    "backward",
    "grad",
    "value_and_grad",
    "vjp",
    "jvp",
    "linearize",
    "jacobian",
    "hessian",
    "hvp",
    "per_example_grad",
    "vmap",
    "stop_gradient",
    "checkpoint",
    "custom_vjp",
    "custom_jvp",
    "check",
    # How operations are treated.
    "no_grad",
    "enable_grad",
    "detect_anomaly",
    "keep_freed_memory",
    # Errors: all the others are in distgrad.errors.
    "DistgradError",
    *LAZY,
]


def __getattr__(name: str) -> Any:
    where = LAZY.get(name)
    if where is None:
        raise AttributeError(f"module 'distgrad' has no attribute {name!r}")
    from importlib import import_module

    module, _, attribute = where.partition(":")
    found = import_module(module)
    if attribute:
        found = getattr(found, attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *LAZY})


if TYPE_CHECKING:
    from distgrad import nn as nn
    from distgrad import optim as optim
    from distgrad.cluster.connect import connect as connect
    from distgrad.cluster.local import LocalCluster as LocalCluster
    from distgrad.cluster.ray import RayCluster as RayCluster
    from distgrad.coordinator.training.job import Job as Job
    from distgrad.coordinator.training.trainer import Trainer as Trainer
    from distgrad.graph.deadlines import deadline as deadline
    from distgrad.service.block import serve as serve
    from distgrad.service.client import client as client
    from distgrad.service.served import served as served
    from distgrad.worker.shard import Shard as Shard
    from distgrad.worker.shard import remote as remote
