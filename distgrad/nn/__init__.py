"""Neural networks: modules, layers, losses and initial weights, all made of `dg.ops`."""

from . import initialise, random
from .activation import (
    ELU,
    GELU,
    SELU,
    Hardtanh,
    LeakyReLU,
    LogSoftmax,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from .attention import MultiHeadAttention
from .containers import Sequential
from .convolution import Conv1d, Conv2d, ConvTranspose2d
from .dropout import Dropout
from .embedding import Embedding
from .linear import Linear
from .losses import BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, KLDivLoss, L1Loss, MSELoss, NLLLoss
from .module import Module, evaluating
from .normalisation import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from .parameter import Buffer, BufferUpdate, Parameter, staged_buffers
from .pooling import AdaptiveAvgPool2d, AvgPool2d, Flatten, MaxPool2d
from .recurrent import GRUCell, LSTMCell

__all__ = [
    # What a network is made of.
    "Module",
    "Parameter",
    "Buffer",
    "BufferUpdate",
    "staged_buffers",
    "evaluating",
    "Sequential",
    # Layers.
    "Linear",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "MaxPool2d",
    "AvgPool2d",
    "AdaptiveAvgPool2d",
    "Flatten",
    "LayerNorm",
    "RMSNorm",
    "GroupNorm",
    "BatchNorm",
    "Embedding",
    "Dropout",
    "MultiHeadAttention",
    "LSTMCell",
    "GRUCell",
    # Activations.
    "ReLU",
    "LeakyReLU",
    "ELU",
    "SELU",
    "GELU",
    "SiLU",
    "Mish",
    "Softplus",
    "Hardtanh",
    "Tanh",
    "Sigmoid",
    "Softmax",
    "LogSoftmax",
    # Losses.
    "CrossEntropyLoss",
    "NLLLoss",
    "MSELoss",
    "L1Loss",
    "HuberLoss",
    "BCEWithLogitsLoss",
    "KLDivLoss",
    # Where weights come from.
    "initialise",
    "random",
]
