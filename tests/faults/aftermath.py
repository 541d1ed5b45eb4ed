"""What must hold when a fault is over."""

from __future__ import annotations

import re

import numpy as np

from distgrad.errors import WorkerLost

from .moments import SEED, Trouble, X
from .world import WorkerProcess, World


def silent(victim: WorkerProcess) -> str:
    """Why a process is lost that lives and says nothing, as a regular expression."""
    return rf"silent for 3 s; its process {victim.pid} is stopped"


def assert_everyone_learned(world: World, trouble: Trouble, victim: WorkerProcess, reason: str) -> None:
    """The driver got an error, and the coordinator an event, that name the victim and say why it is lost.

    Arguments:
        reason: a regular expression.
    """
    _, error = trouble.outcome()
    assert isinstance(error, WorkerLost)
    # Another worker may have been about to reach it for the first time.
    assert re.search(rf"{victim.name}(#\w+)? (is lost\b.*({reason})|cannot be reached at )", str(error)), str(error)
    _, member = world.loss(victim)
    assert (member.name, member.state) == (victim.name, "lost")
    assert re.search(reason, member.reason)


def assert_survivors_serve(world: World, *shards: str) -> None:
    """These shards compute values and gradients together, as if nothing had been, and let go of them."""
    handles = [world.driver.shard(name) for name in shards]
    weights = [handle.state_dict()["weight"] for handle in handles]
    with world.driver.context() as context:
        value = X
        for handle in handles:
            value = handle.forward(value)
        context.backward(value, SEED)
        expected, gradient = X, SEED
        for weight in weights:
            expected = expected @ weight
        for weight in reversed(weights[1:]):
            gradient = gradient @ weight.T
        np.testing.assert_array_equal(value.numpy(), expected)
        np.testing.assert_array_equal(context.gradients(handles[0])["weight"], X.T @ gradient)
    world.assert_nothing_is_held()
