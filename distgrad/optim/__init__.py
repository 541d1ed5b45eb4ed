"""Optimizers: rules from gradients to new parameters, pure for distributed owners and bound in place for local
programs.
"""

from distgrad.optim.adam import Adam, AdamW
from distgrad.optim.bound import BoundOptimizer
from distgrad.optim.optimizer import Optimizer, from_settings
from distgrad.optim.sgd import SGD

__all__ = ["Optimizer", "BoundOptimizer", "from_settings", "SGD", "Adam", "AdamW"]
