"""Neural networks: modules, layers, losses and initial weights, all made of `dg.ops`."""

from distgrad.nn import initialise, random
from distgrad.nn.linear import Linear
from distgrad.nn.losses import CrossEntropyLoss, MSELoss
from distgrad.nn.module import Module
from distgrad.nn.parameter import Buffer, BufferUpdate, Parameter, staged_buffers

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
