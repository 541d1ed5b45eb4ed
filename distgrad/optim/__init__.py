"""Optimizers: rules from gradients to new parameters, pure for distributed owners and bound in place for local
programs.
"""

from . import schedules
from .adam import Adam, AdamW
from .adaptive import Adagrad, Lion, RMSprop
from .bound import BoundOptimizer
from .clipping import clip_by_norm, clip_by_value, clip_factor, norm_of, total_norm
from .lamb import LAMB
from .minimisation import Minimum, minimize
from .optimizer import Optimizer, from_settings
from .sgd import SGD

__all__ = [
    # The rules.
    "Optimizer",
    "SGD",
    "Adam",
    "AdamW",
    "Adagrad",
    "RMSprop",
    "Lion",
    "LAMB",
    "from_settings",
    "BoundOptimizer",
    # What acts on a rule's learning rate and gradients.
    "schedules",
    "clip_by_norm",
    "clip_by_value",
    "clip_factor",
    "norm_of",
    "total_norm",
    # Smooth, deterministic functions.
    "minimize",
    "Minimum",
]
