"""Initial weights, by their standard names. Each takes a shape and a generator and returns a new array.

A weight's first axis counts outputs and its second inputs; further axes are those of a convolution's kernel.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from distgrad.errors import ConfigError

Shape = tuple[int, ...]
FanMode = Literal["in", "out"]


def fans(shape: Shape) -> tuple[int, int]:
    """How many inputs reach an output, and how many outputs an input reaches."""
    if len(shape) < 2:
        raise ConfigError(f"a weight of shape {shape} has no inputs and outputs to count; it needs two axes or more")
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def gain(nonlinearity: str, slope: float = 0.01) -> float:
    """The factor that keeps the variance through an activation: "linear", "sigmoid", "tanh", "relu", "leaky_relu",
    "selu".
    """
    gains = {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2 / (1 + slope**2)),
        "selu": 3 / 4,
    }
    if nonlinearity not in gains:
        raise ConfigError(f"no gain is known for {nonlinearity!r}; known are {', '.join(gains)}")
    return gains[nonlinearity]


def uniform(shape: Shape, rng: np.random.Generator, low: float = 0.0, high: float = 1.0, dtype: Any = "float32") -> Any:
    """Uniform on [low, high)."""
    return rng.uniform(low, high, shape).astype(dtype)


def normal(shape: Shape, rng: np.random.Generator, mean: float = 0.0, std: float = 1.0, dtype: Any = "float32") -> Any:
    """Normal with the given mean and standard deviation."""
    return rng.normal(mean, std, shape).astype(dtype)


def truncated_normal(
    shape: Shape,
    rng: np.random.Generator,
    mean: float = 0.0,
    std: float = 1.0,
    limit: float = 2.0,
    dtype: Any = "float32",
) -> Any:
    """Normal, drawn again wherever it falls more than `limit` standard deviations from the mean."""
    values = rng.standard_normal(shape)
    while (outside := np.abs(values) > limit).any():
        values[outside] = rng.standard_normal(int(outside.sum()))
    return (mean + std * values).astype(dtype)


def xavier_uniform(shape: Shape, rng: np.random.Generator, gain: float = 1.0, dtype: Any = "float32") -> Any:
    """Uniform with variance 2 gain² / (inputs + outputs) (Glorot & Bengio 2010)."""
    bound = gain * math.sqrt(6 / sum(fans(shape)))
    return uniform(shape, rng, -bound, bound, dtype)


def xavier_normal(shape: Shape, rng: np.random.Generator, gain: float = 1.0, dtype: Any = "float32") -> Any:
    """Normal with variance 2 gain² / (inputs + outputs) (Glorot & Bengio 2010)."""
    return normal(shape, rng, 0.0, gain * math.sqrt(2 / sum(fans(shape))), dtype)


def kaiming_uniform(
    shape: Shape, rng: np.random.Generator, gain: float = math.sqrt(2.0), mode: FanMode = "in", dtype: Any = "float32"
) -> Any:
    """Uniform with variance gain² / inputs, or outputs by `mode` (He et al. 2015)."""
    bound = gain * math.sqrt(3 / fans(shape)[mode == "out"])
    return uniform(shape, rng, -bound, bound, dtype)


def kaiming_normal(
    shape: Shape, rng: np.random.Generator, gain: float = math.sqrt(2.0), mode: FanMode = "in", dtype: Any = "float32"
) -> Any:
    """Normal with variance gain² / inputs, or outputs by `mode` (He et al. 2015)."""
    return normal(shape, rng, 0.0, gain / math.sqrt(fans(shape)[mode == "out"]), dtype)


def orthogonal(shape: Shape, rng: np.random.Generator, gain: float = 1.0, dtype: Any = "float32") -> Any:
    """Rows or columns, whichever are fewer, orthonormal, times `gain` (Saxe et al. 2014)."""
    inputs, _ = fans((*shape[:1], math.prod(shape[1:])))
    flat = rng.standard_normal((max(shape[0], inputs), min(shape[0], inputs)))
    q, r = np.linalg.qr(flat)
    q *= np.sign(np.diag(r))
    return (gain * (q if shape[0] >= inputs else q.T)).reshape(shape).astype(dtype)


def fan_in_uniform(shape: Shape, rng: np.random.Generator, inputs: int, dtype: Any = "float32") -> Any:
    """Uniform within ± 1/√inputs: what the layers of this library start from, for weights and biases alike."""
    bound = 1 / math.sqrt(inputs) if inputs else 0.0
    return uniform(shape, rng, -bound, bound, dtype)
