"""Random numbers that depend on names, never on who draws them or when.

A generator's key is a hash of a seed and names: (seed, shard, position of the parameter) for initial weights, (seed,
shard, step, microbatch, path of the call, position of the draw) for dropout. So the same model has the same weights
wherever its parts are placed, and a step can be run again bit for bit.

    with nn.random.seeded(7, "stem"):
        layer = nn.Linear(64, 128)           # weights of (7, "stem", 0), bias of (7, "stem", 1)

A scope counts its draws in the order of the program inside it. Outside any scope the program itself is the scope,
with seed 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextvars import ContextVar

import numpy as np

from distgrad.autograd.checkpoint import SNAPSHOTS
from distgrad.autograd.scoped import Scoped

Name = str | int


class Scope:
    """A seed, names, and how many keys have been drawn under them."""

    __slots__ = ("drawn", "names", "seed")

    def __init__(self, seed: int, names: tuple[Name, ...], drawn: int = 0) -> None:
        self.seed = seed
        self.names = names
        self.drawn = drawn

    def next_key(self) -> int:
        """The key of the next draw."""
        self.drawn += 1
        return key(self.seed, *self.names, self.drawn - 1)

    def __repr__(self) -> str:
        return f"Scope(seed={self.seed}, names={self.names})"


# The program's own scope counts on through the program, so its draws differ from one another.
_scope: ContextVar[Scope] = ContextVar("distgrad_random_scope", default=Scope(0, ()))  # noqa: B039


def key(seed: int, *names: Name) -> int:
    """A 128-bit key for `seed` and `names`; 1 and "1" are different names, and so are ("a", "b") and ("ab",)."""
    digest = hashlib.blake2b(digest_size=16)
    for name in (seed, *names):
        text = (f"text {name}" if isinstance(name, str) else f"number {int(name)}").encode()
        digest.update(len(text).to_bytes(8, "little") + text)
    return int.from_bytes(digest.digest(), "little")


def generator(seed: int, *names: Name) -> np.random.Generator:
    """The generator of `seed` and `names` (Philox: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
    2011).
    """
    return from_key(key(seed, *names))


def from_key(key: int) -> np.random.Generator:
    """The generator of one key."""
    return np.random.Generator(np.random.Philox(key=key))


def seeded(seed: int = 0, *names: Name) -> Scoped[Scope]:
    """Within its block initial weights and dropout derive from `seed` and `names`. Scopes do not add up: the inner
    one counts.
    """
    return Scoped(_scope, Scope(seed, names))


def _same_draws() -> Callable[[], Scoped[Scope]]:
    """Lets a checkpointed function draw the same again when it is run again."""
    scope = _scope.get()
    drawn = scope.drawn
    return lambda: Scoped(_scope, Scope(scope.seed, scope.names, drawn))


SNAPSHOTS.append(_same_draws)


def next_key() -> int:
    """The key of the next draw in the present scope."""
    return _scope.get().next_key()


def next_generator() -> np.random.Generator:
    """The generator of the next draw in the present scope."""
    return from_key(next_key())
