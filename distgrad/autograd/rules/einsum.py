"""Einstein summation: subscripts name axes; what is named alike is multiplied, what is not kept is summed.

Operands are contracted two at a time, by transposing and one matmul (np.einsum's own loop is five to ten times slower),
the pair with the smallest result first. The vjp of one operand is again a contraction: of the gradient with the others.

Axes are kept as strings of one-character labels. An ellipsis becomes labels of its own.
"""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np

from ..primitive import composite, conjugate, primitive
from .diagonals import diagonal_scatter
from .nested import nested

# An operand or intermediate result and the labels of its axes.
Term = tuple[Any, str]

# ---- reading subscripts ----------------------------------------------------------------------------------------------

# Where the labels of ellipses begin: beyond the letters that subscripts may use.
_ELLIPSIS = 0x1000


@lru_cache(maxsize=1024)
def _parsed(subscripts: str, ndims: tuple[int, ...]) -> tuple[tuple[str, ...], str]:
    """The labels of each operand and of the result, ellipses replaced and an implicit result made explicit."""
    subscripts = subscripts.replace(" ", "")
    left, arrow, right = subscripts.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(ndims):
        raise ValueError(f"einsum({subscripts!r}) names {len(inputs)} operands, but {len(ndims)} were given")
    inputs = [_without_ellipsis(labels, ndim, subscripts) for labels, ndim in zip(inputs, ndims, strict=True)]
    spread = sorted({label for labels in inputs for label in labels if ord(label) >= _ELLIPSIS}, reverse=True)
    counts = Counter("".join(inputs))
    if not arrow:
        # NumPy's implicit result: the ellipsis, then every label that occurs once, in alphabetical order.
        right = "..." + "".join(sorted(label for label, n in counts.items() if n == 1 and ord(label) < _ELLIPSIS))
    output = right.replace("...", "".join(spread))
    if spread and "..." not in right:
        raise ValueError(f"the result of einsum({subscripts!r}) lacks the `...` of its operands")
    strange = [label for label in output if counts[label] == 0]
    if strange or len(set(output)) < len(output):
        what = f"names {strange[0]!r}, which no operand has" if strange else "names an axis twice"
        raise ValueError(f"the result of einsum({subscripts!r}) {what}")
    return tuple(inputs), output


def _without_ellipsis(labels: str, ndim: int, subscripts: str) -> str:
    """Labels of one operand with one label for each axis. The last axis of an ellipsis is alike in all operands."""
    named = labels.replace("...", "")
    extra = ndim - len(named)
    strange = named != "" and not named.isalpha()
    if strange or extra < 0 or (extra and named == labels):
        raise ValueError(
            f"einsum({subscripts!r}): {labels!r} does not fit an operand with {ndim} axes; "
            "each axis needs a letter, or `...` stands for the others"
        )
    return labels.replace("...", "".join(chr(_ELLIPSIS + k) for k in range(extra - 1, -1, -1)))


def _from_lists(operands: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
    """NumPy's other form, operand, [axis, ...], operand, [axis, ...], ..., [axis, ...], as subscripts."""

    def text(axes: Any) -> str:
        return "".join("..." if axis is Ellipsis else string.ascii_letters[axis] for axis in axes)

    arrays = tuple(operands[0 : len(operands) // 2 * 2 : 2])
    subscripts = ",".join(text(axes) for axes in operands[1::2])
    return subscripts + ("->" + text(operands[-1]) if len(operands) % 2 else ""), arrays


# ---- contracting -----------------------------------------------------------------------------------------------------


def _lengths(operands: Sequence[Any], inputs: Sequence[str]) -> dict[str, int]:
    """The length of each label. An axis of length one goes with any."""
    lengths: dict[str, int] = {}
    for x, labels in zip(operands, inputs, strict=True):
        for label, n in zip(labels, x.shape, strict=True):
            if lengths.setdefault(label, n) != n:
                if n != 1 and lengths[label] != 1:
                    raise ValueError(f"einsum: axis {label!r} has length {lengths[label]} and length {n}")
                lengths[label] = n if lengths[label] == 1 else lengths[label]
    return lengths


def _contract(xp: Any, *operands: Any, inputs: tuple[str, ...], output: str) -> Any:
    lengths = _lengths(operands, inputs)
    terms = [_distinct(xp, x, labels, lengths) for x, labels in zip(operands, inputs, strict=True)]
    terms = [_summed(xp, term, _needed(terms, (k,), output)) for k, term in enumerate(terms)]
    while len(terms) > 1:
        i, j = _smallest(terms, lengths, output)
        needed = _needed(terms, (i, j), output)
        second, first = terms.pop(j), terms.pop(i)
        terms.append(_product(xp, first, second, needed))
    return _in_order(xp, terms[0], output)


def _distinct(xp: Any, x: Any, labels: str, lengths: dict[str, int]) -> Term:
    """An operand with each label once: without its axes of length one that broadcast, diagonals taken."""
    if tuple(lengths[label] for label in labels) != tuple(x.shape):
        kept = [k for k, label in enumerate(labels) if x.shape[k] == lengths[label]]
        x = xp.reshape(x, tuple(x.shape[k] for k in kept))
        labels = "".join(labels[k] for k in kept)
    while (pair := _repeated(labels)) is not None:
        x = xp.diagonal(x, axis1=pair[0], axis2=pair[1])
        labels = _joined(labels, pair)
    return x, labels


def _repeated(labels: str) -> tuple[int, int] | None:
    """The places of a label that occurs twice."""
    for k, label in enumerate(labels):
        again = labels.find(label, k + 1)
        if again >= 0:
            return k, again
    return None


def _joined(labels: str, pair: tuple[int, int]) -> str:
    """Labels after two equal ones were joined to one at the end, as `diagonal` does."""
    first, second = pair
    return labels[:first] + labels[first + 1 : second] + labels[second + 1 :] + labels[first]


def _needed(terms: Sequence[Term], besides: tuple[int, ...], output: str) -> set[str]:
    """The labels of the result and of all terms but some."""
    return set(output).union(*(labels for k, (_, labels) in enumerate(terms) if k not in besides))


def _summed(xp: Any, term: Term, needed: set[str]) -> Term:
    x, labels = term
    axes = tuple(k for k, label in enumerate(labels) if label not in needed)
    return (xp.sum(x, axis=axes), "".join(label for label in labels if label in needed)) if axes else term


def _smallest(terms: Sequence[Term], lengths: dict[str, int], output: str) -> tuple[int, int]:
    """The pair whose product takes the least more room than its factors; of equals, the one with the least work."""
    if len(terms) == 2:
        return 0, 1

    def size(labels: Any) -> int:
        return math.prod(lengths[label] for label in labels)

    def cost(pair: tuple[int, int]) -> tuple[int, int]:
        x, y = (set(terms[k][1]) for k in pair)
        return size((x | y) & _needed(terms, pair, output)) - size(x) - size(y), size(x | y)

    return min(combinations(range(len(terms)), 2), key=cost)


def _product(xp: Any, first: Term, second: Term, needed: set[str]) -> Term:
    """Two terms multiplied and summed over the labels that nothing else needs."""
    (x, of_x), (y, of_y) = first, second
    both = [label for label in of_x if label in of_y]
    batch = [label for label in both if label in needed]
    summed = [label for label in both if label not in needed]
    only_x = [label for label in of_x if label not in of_y]
    only_y = [label for label in of_y if label not in of_x]
    result = "".join(batch + only_x + only_y)
    lengths = dict(zip(of_x + of_y, (*x.shape, *y.shape), strict=True))
    shape = tuple(lengths[label] for label in result)
    if not summed:
        x = _in_order(xp, first, "".join(batch + only_x))
        y = _in_order(xp, second, "".join(batch + only_y))
        if only_x and only_y:
            x = xp.reshape(x, (*x.shape, *(1,) * len(only_y)))
            y = xp.reshape(y, (*y.shape[: len(batch)], *(1,) * len(only_x), *y.shape[len(batch) :]))
        elif only_x:
            y = xp.reshape(y, (*y.shape, *(1,) * len(only_x)))
        elif only_y:
            x = xp.reshape(x, (*x.shape, *(1,) * len(only_y)))
        return xp.multiply(x, y), result
    x = _matrices(xp, first, batch, only_x, summed, lengths)
    y = _matrices(xp, second, batch, summed, only_y, lengths)
    product = xp.matmul(x, y)
    return product if product.shape == shape else xp.reshape(product, shape), result


def _matrices(
    xp: Any, term: Term, batch: list[str], rows: list[str], columns: list[str], lengths: dict[str, int]
) -> Any:
    """A term as matrices, the batch axes in front. Axes stay views where rows and columns are one label each."""
    x = _in_order(xp, term, "".join(batch + rows + columns))
    if len(rows) == 1 == len(columns):
        return x
    size = [math.prod(lengths[label] for label in group) for group in (rows, columns)]
    return xp.reshape(x, (*x.shape[: len(batch)], *size))


def _in_order(xp: Any, term: Term, output: str) -> Any:
    x, labels = term
    return x if labels == output else xp.transpose(x, tuple(labels.index(label) for label in output))


# ---- pulling back ----------------------------------------------------------------------------------------------------


def _contract_vjp(i: int, xp: Any, g: Any, ans: Any, *operands: Any, inputs: tuple[str, ...], output: str) -> Any:
    lengths = _lengths(operands, inputs)
    x = operands[i]
    # The axes that broadcast play no part; the rest, each label once, is what the other operands and g determine.
    labels = "".join(label for label, n in zip(inputs[i], x.shape, strict=True) if n == lengths[label])
    others = [k for k in range(len(operands)) if k != i]
    sources = (output, *(inputs[k] for k in others))
    found = "".join(label for label in dict.fromkeys(labels) if any(label in source for source in sources))
    pulled = nested(xp, contract, g, *(conjugate(xp, operands[k]) for k in others), inputs=sources, output=found)
    # What x alone has (the others at most with length one) was summed over: every element gets the same.
    alone = "".join(label for label in dict.fromkeys(labels) if label not in found)
    shape = tuple(lengths[label] for label in alone + found)
    if pulled.shape != shape:
        pulled = xp.broadcast_to(xp.reshape(pulled, (*(1,) * len(alone), *pulled.shape)), shape)
    pulled = _on_diagonals(xp, (pulled, alone + found), labels, lengths)
    return pulled if pulled.shape == x.shape else xp.reshape(pulled, tuple(x.shape))


def _on_diagonals(xp: Any, term: Term, labels: str, lengths: dict[str, int]) -> Any:
    """The transpose of taking diagonals: a term with each label once, put where its labels repeat, zeros elsewhere."""
    pair = _repeated(labels)
    if pair is None:
        return _in_order(xp, term, labels)
    inside = _on_diagonals(xp, term, _joined(labels, pair), lengths)
    shape = tuple(lengths[label] for label in labels)
    return nested(xp, diagonal_scatter, inside, shape=shape, offset=0, axis1=pair[0], axis2=pair[1])


contract = primitive(
    "contract",
    _contract,
    vjps=_contract_vjp,
    jvp="linear",
    save="inputs",
    doc="The product of the operands, whose axes `inputs` names, summed over the labels that `output` lacks: `einsum`.",
)


@composite
def einsum(subscripts: Any, *operands: Any, optimize: Any = True) -> Any:
    """The sum of products that `subscripts` describes, such as "bij,bjk->bik".

    Labels may repeat within an operand (a diagonal), an ellipsis stands for axes that broadcast, and without "->" the
    result has the labels that occur once. NumPy's form with lists of axes is understood too.

    Arguments:
        optimize: for NumPy's sake; the order of contraction is always chosen.
    """
    if not isinstance(subscripts, str):
        subscripts, operands = _from_lists((subscripts, *operands))
    arrays = [x if hasattr(x, "shape") else np.asarray(x) for x in operands]
    inputs, output = _parsed(subscripts, tuple(len(x.shape) for x in arrays))
    return contract(*arrays, inputs=inputs, output=output)
