"""Neural networks: modules, layers, losses and initial weights, all made of `dg.ops`."""

from . import initialise, random
from .linear import Linear
from .losses import CrossEntropyLoss, MSELoss
from .module import Module
from .parameter import Buffer, BufferUpdate, Parameter, staged_buffers

__all__ = [
    "Module",
    "Parameter",
    "Buffer",
    "BufferUpdate",
    "staged_buffers",
    "Linear",
    "CrossEntropyLoss",
    "MSELoss",
    "initialise",
    "random",
]
