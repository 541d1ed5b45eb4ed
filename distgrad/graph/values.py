"""Trees of values on their way out of a process and into it.

Outwards, tensors become arrays (recorded ones leave a send node), references and handles become names. Inwards, arrays
become tensors (recorded ones get a recv node) and names become references and handles. Both directions walk a tree in
the same order and number its arrays alike; that number names the edge. An array with a tangent has one number.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distgrad.autograd.forward import Dual
from distgrad.autograd.tape import Mode
from distgrad.autograd.tensor import Boxed, Tensor
from distgrad.errors import ContextError
from distgrad.wire import Recorded, RefName, ShardName, WithTangent, normalise

from .edges import EdgeId
from .refs import Ref
from .share import Share
from .tangents import edges_within, primal_of

if TYPE_CHECKING:
    from .process import Process


# What is walked through; all else is a leaf.
_CONTAINERS = frozenset((tuple, list, dict))


def map_leaves(tree: Any, change: Callable[[Any], Any]) -> Any:
    """The tree of lists, tuples and dicts with `change` applied to everything else, in order."""
    kind = type(tree)
    if kind is tuple:
        return tuple(_map_items(tree, change))
    if kind is list:
        return _map_items(tree, change)
    if kind is dict:
        return dict(zip(tree, _map_items(tree.values(), change), strict=True))
    return change(tree)


def _map_items(items: Iterable[Any], change: Callable[[Any], Any]) -> list[Any]:
    return [map_leaves(item, change) if type(item) in _CONTAINERS else change(item) for item in items]


def as_it_is_now(leaf: Any) -> Any:
    """An array that nobody can write to: a copy of one that somebody could. Anything else is left alone."""
    if isinstance(leaf, np.ndarray) and leaf.flags.writeable:
        leaf = leaf.copy()
        leaf.flags.writeable = False
    return leaf


def leaves_of(tree: Any) -> list[Any]:
    """What `map_leaves` changes, in order."""
    found: list[Any] = []
    _add_leaves((tree,), found)
    return found


def _add_leaves(items: Iterable[Any], found: list[Any]) -> None:
    for item in items:
        if type(item) not in _CONTAINERS:
            found.append(item)
        else:
            _add_leaves(item.values() if type(item) is dict else item, found)


def references_in(tree: Any) -> list[tuple[tuple[int | str, ...], Ref]]:
    """The Refs in a tree, each with the steps that lead to it."""
    return [(steps, leaf) for steps, leaf in _parts(tree) if isinstance(leaf, Ref)]


def _parts(tree: Any, steps: tuple[int | str, ...] = ()) -> Iterator[tuple[tuple[int | str, ...], Any]]:
    kind = type(tree)
    if kind is tuple or kind is list:
        for k, item in enumerate(tree):
            yield from _parts(item, (*steps, k))
    elif kind is dict:
        for key, item in tree.items():
            yield from _parts(item, (*steps, key))
    else:
        yield steps, tree


def in_words(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Arguments of a call as its error shows them: "float32[32, 65], 3, scale=0.5"."""
    return ", ".join([*map(_word, args), *(f"{key}={_word(value)}" for key, value in kwargs.items())])


def _word(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, tuple | list | dict):
        return f"{type(value).__name__} of {len(value)}"
    return reprlib.repr(value)


class Outward:
    """Makes a tree ready for the wire.

    Arguments:
        share: the context; its send nodes are made here.
        peer: the process the tree goes to.
        edge: names the edge of array number n; None leaves no edges, and tangents behind.
        first: number of the first array.
    """

    def __init__(self, share: Share, peer: str, edge: Callable[[int], EdgeId] | None, first: int = 0) -> None:
        self._share = share
        self._peer = peer
        self._edge = edge
        self._next = first
        self._encoder = share.process.encoder if share.process is not None else None

    def pack(self, tree: Any) -> Any:
        return map_leaves(tree, self._leaf)

    def _leaf(self, leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            number = self._number()
            if isinstance(leaf, Boxed):
                return self._boxed(leaf, number)
            array = self._array(leaf)
            if leaf.node is None or self._edge is None:
                return array
            self._share.send(self._edge(number), leaf.node, self._peer)
            return Recorded(array)
        if isinstance(leaf, np.ndarray):
            self._number()
            array = as_it_is_now(leaf)  # it leaves later, and again after a break
            return array if self._encoder is None else self._encoder.value(array, self._peer)
        if isinstance(leaf, Ref):
            self._number()
            if leaf.share.process is not self._share.process:
                raise ContextError(f"{leaf!r} belongs to another cluster: bring its value here by .get()")
            return leaf.require()
        name = getattr(leaf, "shard_name", None)
        return leaf if name is None else ShardName(name)

    def _array(self, leaf: Tensor) -> Any:
        array = normalise(np.asarray(leaf.data))
        return array if self._encoder is None else self._encoder.value(array, self._peer)

    def _boxed(self, leaf: Tensor, number: int) -> Any:
        if self._edge is None:
            return self._array(primal_of(leaf))
        return self._part(leaf, edges_within(self._edge(number)))

    def _part(self, leaf: Tensor, edges: Iterator[EdgeId]) -> Any:
        """A dual, or an array in it."""
        if type(leaf) is Dual:
            jvp = self._share.jvps.name(leaf)
            return WithTangent(jvp, self._part(leaf.data, edges), self._part(leaf.tangent, edges))
        leaf, edge = primal_of(leaf), next(edges)
        if leaf.node is None:
            return self._array(leaf)
        self._share.send(edge, leaf.node, self._peer)
        return Recorded(self._array(leaf))

    def _number(self) -> int:
        number = self._next
        self._next += 1
        return number


class Inward:
    """Makes a received tree ready for the program.

    Arguments:
        process: this process, for handles and references.
        share: the context; its recv nodes are made here.
        peer: the process the tree came from.
        edge: names the edge of array number n.
        mode: that in which the program goes on that the values are for.
        first: number of the first array.
        fetched: values of the references in the tree, by array number, where they have been fetched.
    """

    def __init__(
        self,
        process: Process,
        share: Share,
        peer: str,
        edge: Callable[[int], EdgeId],
        mode: Mode,
        first: int = 0,
        fetched: dict[int, Any] | None = None,
    ) -> None:
        self._process = process
        self._share = share
        self._peer = peer
        self._edge = edge
        self._mode = mode
        self._next = first
        self._fetched = fetched or {}

    def unpack(self, tree: Any) -> Any:
        return map_leaves(tree, self._leaf)

    def _leaf(self, leaf: Any) -> Any:
        if isinstance(leaf, (Recorded, np.ndarray, RefName, WithTangent)):
            number = self._next
            self._next += 1
            if isinstance(leaf, Recorded):
                return self._share.receive(self._edge(number), leaf.array, self._peer, self._mode.frame)
            if isinstance(leaf, np.ndarray):
                return Tensor(leaf)
            if isinstance(leaf, WithTangent):
                return self._part(leaf, edges_within(self._edge(number)))
            return self._fetched[number]
        return self._process.handle(leaf.name) if isinstance(leaf, ShardName) else leaf

    def _part(self, leaf: Any, edges: Iterator[EdgeId]) -> Tensor:
        """A dual, or a tensor in it."""
        if isinstance(leaf, WithTangent):
            level = self._share.jvps.level(leaf.jvp, self._mode.jvps)
            return Dual(self._part(leaf.primal, edges), self._part(leaf.tangent, edges), level)
        edge = next(edges)
        if isinstance(leaf, Recorded):
            return self._share.receive(edge, leaf.array, self._peer, self._mode.frame)
        return Tensor(leaf)


def references(tree: Any, first: int = 0) -> dict[int, RefName]:
    """The references in a received tree, by array number."""
    numbered = [leaf for leaf in leaves_of(tree) if isinstance(leaf, (Recorded, np.ndarray, RefName, WithTangent))]
    return {number: leaf for number, leaf in enumerate(numbered, first) if isinstance(leaf, RefName)}


def select(tree: Any, steps: tuple[int | str, ...], what: str) -> tuple[Any, int]:
    """The part of a value that `steps` lead to, and the number of its first array within the whole. Where they lead on
    into the value of another call, the reference to that part of it."""
    before = 0
    for step in steps:
        items: list[tuple[Any, Any]]
        if isinstance(tree, Ref):
            tree = tree[step]
            continue
        if isinstance(tree, dict):
            items = list(tree.items())
            position = list(tree).index(step) if step in tree else None
        elif isinstance(tree, list | tuple):
            items = list(enumerate(tree))
            position = range(len(tree))[step] if isinstance(step, int) and -len(tree) <= step < len(tree) else None
        else:
            raise TypeError(f"{what} is a {type(tree).__name__}, which has no item [{step!r}]")
        if position is None:
            raise KeyError(f"{what} has no item [{step!r}]; it has {[key for key, _ in items]}")
        before += sum(count_arrays(item) for _, item in items[:position])
        tree = items[position][1]
        what = f"{what}[{step!r}]"
    return tree, before


def count_arrays(tree: Any) -> int:
    """How many numbers the arrays and references of a value take."""
    return len(arrays_of(tree))


def arrays_of(tree: Any) -> list[Any]:
    """The tensors, arrays and references of a value, in order: number n is the n-th."""
    return [leaf for leaf in leaves_of(tree) if isinstance(leaf, (Tensor, np.ndarray, Ref))]
