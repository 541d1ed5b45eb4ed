"""Trees: taken apart and put together without loss; differences named by their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distgrad.autograd import tree
from distgrad.errors import GradientError


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Layer:
    weight: Any
    bias: Any


LEAVES = st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
TREES = st.recursive(
    LEAVES | st.none(),
    lambda t: st.one_of(
        st.lists(t, max_size=3),
        st.lists(t, max_size=3).map(tuple),
        st.dictionaries(st.text("abc", max_size=2), t, max_size=3),
        st.builds(Pair, t, t),
        st.builds(Layer, t, t),
    ),
    max_leaves=12,
)


@given(TREES)
def test_a_tree_is_its_leaves_and_its_structure(t: Any) -> None:
    leaves, structure = tree.flatten(t)
    again = tree.unflatten(structure, leaves)
    assert again == t
    assert type(again) is type(t)
    assert structure.leaves == len(leaves) == len(structure.paths())
    assert tree.flatten(again) == (leaves, structure)


@given(TREES)
def test_a_path_leads_to_its_leaf(t: Any) -> None:
    def at(path: str) -> Any:
        found = t
        for step in path.replace("]", "").replace("[", "\0").replace(".", "\0.").split("\0")[1:]:
            if step.startswith("."):
                found = getattr(found, step[1:])
            else:
                keys = range(len(found)) if isinstance(found, list | tuple) else found
                found = found[next(key for key in keys if repr(key) == step)]
        return found

    leaves, structure = tree.flatten(t)
    for leaf, path in zip(leaves, structure.paths(), strict=True):
        assert at(path) == leaf


def test_the_keys_of_a_dict_are_sorted_whatever_their_order_was() -> None:
    assert tree.flatten({"b": 1, "a": 2}) == tree.flatten({"a": 2, "b": 1})
    assert tree.flatten({"b": 1, "a": 2})[0] == [2, 1]


def test_map_goes_over_several_trees_alike() -> None:
    assert tree.map(lambda x, y: x + y, {"a": [1, 2]}, {"a": [10, 20]}) == {"a": [11, 22]}


@pytest.mark.parametrize(
    ("expected", "found", "message"),
    [
        ({"a": 1}, {"b": 1}, r"at the top it lacks \['a'\] and has also \['b'\]"),
        ({"a": [1, 2]}, {"a": [1]}, r"at \['a'\] it lacks \[1\]"),
        ({"a": Layer(1, 2)}, {"a": Layer(1, [2])}, r"at \['a'\].bias it has a list where a leaf was expected"),
        ([1, None], [1, 2], r"at \[1\] it has a leaf where None was expected"),
        (Pair(1, 2), (1, 2), "it has a tuple where a Pair was expected"),
    ],
)
def test_a_difference_is_named_by_its_place(expected: Any, found: Any, message: str) -> None:
    with pytest.raises(GradientError, match=message):
        tree.flatten_like(tree.flatten(expected)[1], found, "it")


def test_keys_that_do_not_sort_are_refused() -> None:
    with pytest.raises(GradientError, match="must sort"):
        tree.flatten({"a": 1, 2: 3})


def test_a_class_may_be_entered_as_a_container() -> None:
    class Box:
        def __init__(self, content: Any) -> None:
            self.content = content

    tree.register(Box, lambda box: ("content",), getattr, lambda cls, names, children: cls(*children))
    doubled = tree.map(lambda x: 2 * x, Box([1, 2]))
    assert isinstance(doubled, Box)
    assert doubled.content == [2, 4]
    assert tree.flatten(Box([1]))[1].paths() == [".content[0]"]
