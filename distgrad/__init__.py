"""Differentiate programs whose pieces live on different machines.

What is here is imported when it is first asked for (`NAMES`), so that `import distgrad` is quick, and free of grpc
until a network is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distgrad.errors import DistgradError

__version__ = "0.1.0"

# Where each name is: "module" for a module, "module:attribute" for what it defines.
NAMES = {
    # Values and operations.
    "Tensor": "distgrad.autograd.tensor:Tensor",
    "tensor": "distgrad.autograd.tensor:tensor",
    "ops": "distgrad.autograd.ops",
    # Derivatives.
    "backward": "distgrad.autograd.backward:backward",
    "grad": "distgrad.autograd.transforms:grad",
    "value_and_grad": "distgrad.autograd.transforms:value_and_grad",
    "vjp": "distgrad.autograd.reverse:vjp",
    "jvp": "distgrad.autograd.transforms:jvp",
    "linearize": "distgrad.autograd.transforms:linearize",
    "jacobian": "distgrad.autograd.jacobians:jacobian",
    "hessian": "distgrad.autograd.jacobians:hessian",
    "hvp": "distgrad.autograd.jacobians:hvp",
    "per_example_grad": "distgrad.autograd.jacobians:per_example_grad",
    "vmap": "distgrad.autograd.vmap:vmap",
    "stop_gradient": "distgrad.autograd.transforms:stop_gradient",
    "checkpoint": "distgrad.autograd.checkpoint:checkpoint",
    "custom_vjp": "distgrad.autograd.custom:custom_vjp",
    "custom_jvp": "distgrad.autograd.custom:custom_jvp",
    "check": "distgrad.autograd.check",
    # How operations are treated.
    "no_grad": "distgrad.autograd.modes:no_grad",
    "enable_grad": "distgrad.autograd.modes:enable_grad",
    "detect_anomaly": "distgrad.autograd.modes:detect_anomaly",
    "keep_freed_memory": "distgrad.autograd.allocator:keep_freed_memory",
    # Layers and optimizers.
    "nn": "distgrad.nn",
    "optim": "distgrad.optim",
    # Clusters, and jobs on them.
    "Shard": "distgrad.worker.shard:Shard",
    "remote": "distgrad.worker.shard:remote",
    "LocalCluster": "distgrad.cluster.local:LocalCluster",
    "RayCluster": "distgrad.cluster.ray:RayCluster",
    "connect": "distgrad.cluster.connect:connect",
    "Lossy": "distgrad.transport.settings:Lossy",
    "deadline": "distgrad.graph.deadlines:deadline",
    "Job": "distgrad.coordinator.training.job:Job",
    "Trainer": "distgrad.coordinator.training.trainer:Trainer",
    # The gradient service.
    "served": "distgrad.service.served:served",
    "serve": "distgrad.service.block:serve",
    "client": "distgrad.service.client:client",
}

# All other errors are in distgrad.errors.
__all__ = ["DistgradError", *NAMES]


def __getattr__(name: str) -> Any:
    where = NAMES.get(name)
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
    return sorted({*globals(), *NAMES})


if TYPE_CHECKING:
    from distgrad import nn as nn
    from distgrad import optim as optim
    from distgrad.autograd import check as check
    from distgrad.autograd import ops as ops
    from distgrad.autograd.allocator import keep_freed_memory as keep_freed_memory
    from distgrad.autograd.backward import backward as backward
    from distgrad.autograd.checkpoint import checkpoint as checkpoint
    from distgrad.autograd.custom import custom_jvp as custom_jvp
    from distgrad.autograd.custom import custom_vjp as custom_vjp
    from distgrad.autograd.jacobians import hessian as hessian
    from distgrad.autograd.jacobians import hvp as hvp
    from distgrad.autograd.jacobians import jacobian as jacobian
    from distgrad.autograd.jacobians import per_example_grad as per_example_grad
    from distgrad.autograd.modes import detect_anomaly as detect_anomaly
    from distgrad.autograd.modes import enable_grad as enable_grad
    from distgrad.autograd.modes import no_grad as no_grad
    from distgrad.autograd.reverse import vjp as vjp
    from distgrad.autograd.tensor import Tensor as Tensor
    from distgrad.autograd.tensor import tensor as tensor
    from distgrad.autograd.transforms import grad as grad
    from distgrad.autograd.transforms import jvp as jvp
    from distgrad.autograd.transforms import linearize as linearize
    from distgrad.autograd.transforms import stop_gradient as stop_gradient
    from distgrad.autograd.transforms import value_and_grad as value_and_grad
    from distgrad.autograd.vmap import vmap as vmap
    from distgrad.cluster.connect import connect as connect
    from distgrad.cluster.local import LocalCluster as LocalCluster
    from distgrad.cluster.ray import RayCluster as RayCluster
    from distgrad.coordinator.training.job import Job as Job
    from distgrad.coordinator.training.trainer import Trainer as Trainer
    from distgrad.graph.deadlines import deadline as deadline
    from distgrad.service.block import serve as serve
    from distgrad.service.client import client as client
    from distgrad.service.served import served as served
    from distgrad.transport.settings import Lossy as Lossy
    from distgrad.worker.shard import Shard as Shard
    from distgrad.worker.shard import remote as remote
