"""Optimizers: rules from gradients to new parameters, pure for distributed owners and bound in place for local
programs.
"""

from .adam import Adam, AdamW
from .bound import BoundOptimizer
from .optimizer import Optimizer, from_settings
from .sgd import SGD

__all__ = ["Optimizer", "BoundOptimizer", "from_settings", "SGD", "Adam", "AdamW"]
