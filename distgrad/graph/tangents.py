"""Tangents that travel with their primals: forward mode (`dg.jvp`) over several processes.

While a jvp goes on, a value that depends on its direction is a `Dual` (`autograd/forward.py`): an array and a tangent.
It leaves as the two, and arrives as a dual again; a value without a tangent is a constant to that jvp, wherever it is.
So a method runs on duals as the code around its call does, references take tangents from worker to worker, and no
backward pass is run.

Each jvp has a level, a number of the process that began it. A call names the jvps it is made in, and they get levels of
their own at the callee: higher ones the further in they are, and lower than those of the transforms that the method
begins itself. That order is all that keeps nested derivatives apart.

Under recording, a dual's arrays are recorded like others, so a backward pass can go through primals and tangents alike:
`dg.grad` of a jvp. The other way round, derivatives of a backward pass over several processes, tangents do not go:
boxes of `dg.grad` inside a jvp and of `dg.vmap` cannot travel, nor does a pass of `ctx.backward` or `ctx.grad` begin
inside a jvp. These raise CannotTravel, at which the outermost jvp finds its result by reverse mode instead.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from distgrad.autograd import tape
from distgrad.autograd.forward import Dual
from distgrad.autograd.lifted import Lifted
from distgrad.autograd.tensor import Boxed, Tensor
from distgrad.errors import CannotTravel, GradientError
from distgrad.wire import JvpName

from .edges import EdgeId, part_path


class Jvps:
    """The jvps that calls of one context are made in, as far as this process has met them."""

    __slots__ = ("_levels", "_lock", "_names")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._levels: dict[JvpName, int] = {}
        self._names: dict[int, JvpName] = {}

    def leave(self, levels: Sequence[int], process: str) -> list[JvpName]:
        """The names of jvps that a call is made in here. Those that nobody named yet began in this `process`."""
        with self._lock:
            return [self._names.get(level) or self._meet(JvpName(process, level), level) for level in levels]

    def arrive(self, names: Sequence[JvpName]) -> tuple[int, ...]:
        """The levels here of jvps that a call which came was made in, the outermost first."""
        with self._lock:
            for name in names:
                if name not in self._levels:
                    self._meet(name, tape.next_level())
            return tuple([self._levels[name] for name in names])

    def _meet(self, name: JvpName, level: int) -> JvpName:
        self._levels[name] = level
        self._names[level] = name
        return name

    def name(self, dual: Dual) -> JvpName:
        """The jvp of a dual that leaves. Raises GradientError when it was none that calls were made in."""
        name = self._names.get(dual.level)
        if name is None:
            raise _ended()
        return name

    def level(self, name: JvpName, current: Sequence[int]) -> int:
        """The level of a dual that came, which must be one of the `current` ones, in which the program goes on here.

        Raises:
            GradientError: it is not.
        """
        level = self._levels.get(name)
        if level is None or level not in current:
            raise _ended()
        return level


def _ended() -> GradientError:
    return GradientError(
        "a value from inside a dg.jvp was kept, by a shard or as a Ref, and used after that jvp had ended; return it "
        "from the function instead, with has_aux=True if need be"
    )


def primal_of(value: Tensor) -> Tensor:
    """A value without its tangents.

    Raises:
        CannotTravel: dg.vmap, or dg.grad inside it or a jvp, looks into it.
    """
    while type(value) is Dual:
        value = value.data
    if isinstance(value, Boxed):
        who = "dg.grad inside dg.jvp or dg.vmap" if type(value) is Lifted else "dg.vmap"
        raise CannotTravel(
            f"{who} cannot look into a call to another process; differentiate in reverse mode (dg.grad, dg.vjp), or "
            "let the shard's method do what is inside"
        )
    return value


def arrays_within(leaves: Sequence[Any]) -> Iterator[Any]:
    """The same, with the primals and tangents of duals in their place."""
    for leaf in leaves:
        if type(leaf) is Dual:
            yield from arrays_within((leaf.data, leaf.tangent))
        else:
            yield leaf


def edges_within(edge: EdgeId) -> Iterator[EdgeId]:
    """The edges of a dual's arrays, primals before tangents: the first is that of an array in its place."""
    yield edge
    path = part_path(edge.path, edge.item)
    item = 0
    while True:
        item += 1
        yield edge._replace(path=path, item=item)


def refuse_passes() -> None:
    """Raises CannotTravel inside a jvp, whose tangents a backward pass over several processes would lose."""
    if tape.mode.get().jvps:
        raise CannotTravel(
            "a backward pass over several processes has no tangents, so dg.jvp cannot look into it; differentiate in "
            "reverse mode (dg.grad, dg.vjp)"
        )
