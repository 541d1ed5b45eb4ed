"""Trees: nested containers whose leaves are arrays, such as the parameters of a model.

A container is a dict (its keys sorted), list, tuple, named tuple, dataclass, or a class entered with `register`; None
is an empty container. Everything else is a leaf. A *structure* is a tree without its leaves; structures compare equal
when trees of theirs can be put leaf by leaf side by side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from distgrad.errors import GradientError

# A container's type, its children, and what is needed to build it again: the children's names.
Children = tuple[Sequence[Any], tuple[Any, ...]]


class Container(NamedTuple):
    """How a class of containers is taken apart and put together."""

    names: Callable[[Any], tuple[Any, ...]]
    child: Callable[[Any, Any], Any]
    build: Callable[[type, tuple[Any, ...], list[Any]], Any]
    # How a child is written in a path, e.g. "[{!r}]" or ".{}".
    step: str


def _sorted_keys(tree: dict[Any, Any]) -> tuple[Any, ...]:
    try:
        return tuple(sorted(tree))
    except TypeError as error:
        raise GradientError(f"the keys of a dict in a tree must sort, and these do not: {list(tree)}") from error


def _field_names(tree: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(tree))


def _positions(tree: Sequence[Any]) -> tuple[int, ...]:
    return tuple(range(len(tree)))


# None: a leaf; what is not here is looked at.
_CONTAINERS: dict[type, Container | None] = {
    **dict.fromkeys((np.ndarray, np.float64, np.float32, float, int, complex, bool, str)),
    dict: Container(
        _sorted_keys, lambda t, k: t[k], lambda _, names, children: dict(zip(names, children, strict=True)), "[{!r}]"
    ),
    list: Container(_positions, lambda t, k: t[k], lambda _, names, children: children, "[{!r}]"),
    tuple: Container(_positions, lambda t, k: t[k], lambda _, names, children: tuple(children), "[{!r}]"),
    type(None): Container(lambda _: (), lambda t, k: None, lambda *_: None, ""),
}
_NAMEDTUPLE = Container(lambda t: t._fields, getattr, lambda cls, names, children: cls(*children), ".{}")
_DATACLASS = Container(
    _field_names, getattr, lambda cls, names, children: cls(**dict(zip(names, children, strict=True))), ".{}"
)


def register(
    cls: type,
    names: Callable[[Any], tuple[Any, ...]],
    child: Callable[[Any, Any], Any],
    build: Callable[[type, tuple[Any, ...], list[Any]], Any],
) -> None:
    """Makes instances of `cls` containers: `names(tree)` of the children, `child(tree, name)`, `build(cls, names,
    children)`.
    """
    _CONTAINERS[cls] = Container(names, child, build, ".{}")


def _container(tree: Any) -> Container | None:
    cls = type(tree)
    if cls in _CONTAINERS:
        return _CONTAINERS[cls]
    if isinstance(tree, tuple) and hasattr(cls, "_fields"):
        return _NAMEDTUPLE
    if dataclasses.is_dataclass(cls):
        return _DATACLASS
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class Structure:
    """A tree without its leaves. A leaf's structure has `container` None."""

    container: type | None = None
    names: tuple[Any, ...] = ()
    children: tuple[Structure, ...] = ()

    @property
    def leaves(self) -> int:
        """How many leaves a tree of this structure has."""
        return 1 if self.container is None else sum(child.leaves for child in self.children)

    def paths(self, prefix: str = "") -> list[str]:
        """Where each leaf is, written as Python would reach it: "['weights'][0]"."""
        if self.container is None:
            return [prefix]
        found = []
        for name, child in zip(self.names, self.children, strict=True):
            found += child.paths(prefix + self._step(name))
        return found

    def _step(self, name: Any) -> str:
        return f"[{name!r}]" if self.container in (dict, list, tuple) else f".{name}"

    def difference(self, other: Structure, path: str = "") -> str | None:
        """Where and how `other` differs from this structure, in words; None when they are equal."""
        if self == other:
            return None
        where = path or "the top"
        if self.container is not other.container:
            return f"at {where} it has {_kind(other)} where {_kind(self)} was expected"
        if self.names != other.names:
            missing = [name for name in self.names if name not in other.names]
            extra = [name for name in other.names if name not in self.names]
            parts = [f"lacks {missing}" if missing else "", f"has also {extra}" if extra else ""]
            return f"at {where} it " + " and ".join(part for part in parts if part)
        pairs = zip(self.names, self.children, other.children, strict=True)
        return next(
            found for name, mine, theirs in pairs if (found := mine.difference(theirs, path + self._step(name)))
        )


LEAF = Structure()


def _kind(structure: Structure) -> str:
    if structure.container is None:
        return "a leaf"
    return "None" if structure.container is type(None) else f"a {structure.container.__name__}"


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves of a tree, in a fixed order, and its structure."""
    leaves: list[Any] = []
    return leaves, _take_apart(tree, leaves)


def _take_apart(tree: Any, leaves: list[Any]) -> Structure:
    container = _container(tree)
    if container is None:
        leaves.append(tree)
        return LEAF
    names = container.names(tree)
    return Structure(type(tree), names, tuple(_take_apart(container.child(tree, name), leaves) for name in names))


def unflatten(structure: Structure, leaves: Iterable[Any]) -> Any:
    """The tree of this structure with these leaves."""
    return _put_together(structure, iter(leaves))


def _put_together(structure: Structure, leaves: Any) -> Any:
    if structure.container is None:
        return next(leaves)
    children = [_put_together(child, leaves) for child in structure.children]
    container = _CONTAINERS.get(structure.container)
    if container is None:
        container = _NAMEDTUPLE if issubclass(structure.container, tuple) else _DATACLASS
    return container.build(structure.container, structure.names, children)


def map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """The tree of `function(leaf, leaf of others[0], ...)`; all trees must have one structure."""
    leaves, structure = flatten(tree)
    columns = [leaves]
    for k, other in enumerate(others):
        columns.append(flatten_like(structure, other, f"tree {k + 1}"))
    return unflatten(structure, [function(*row) for row in zip(*columns, strict=True)])


def flatten_like(structure: Structure, tree: Any, what: str) -> list[Any]:
    """The leaves of a tree that must have this structure. Raises GradientError naming the place where it differs."""
    leaves, found = flatten(tree)
    if found != structure:
        raise GradientError(f"{what} does not have the expected structure: {structure.difference(found)}")
    return leaves


def children(tree: Any) -> tuple[tuple[Any, ...], list[Any]]:
    """The names of a container's children and the children; nothing for a leaf."""
    container = _container(tree)
    if container is None:
        return (), []
    names = container.names(tree)
    return names, [container.child(tree, name) for name in names]
