"""Any einsum gives NumPy's values and PyTorch's gradients."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import distgrad as dg
from tests.autograd.differences import check_derivatives

LETTERS = "abcd"


@st.composite
def expressions(draw: st.DrawFn) -> tuple[str, list[tuple[int, ...]]]:
    """Subscripts with diagonals, ellipses and implicit results, and shapes that go with them, some lengths one."""
    lengths = {letter: draw(st.integers(0, 3)) for letter in LETTERS}
    spread = draw(st.lists(st.integers(1, 3), max_size=2))
    operands = draw(st.lists(st.text(LETTERS, max_size=4), min_size=1, max_size=3))
    ellipses = [bool(spread) and draw(st.booleans()) for _ in operands]
    shapes, texts = [], []
    for letters, ellipsis in zip(operands, ellipses, strict=True):
        place = draw(st.integers(0, len(letters))) if ellipsis else 0
        # Lengths of one broadcast; within one operand a letter has one length.
        own = {letter: draw(st.sampled_from([lengths[letter], lengths[letter], 1])) for letter in set(letters)}
        shape = [own[letter] for letter in letters]
        texts.append(letters[:place] + "..." + letters[place:] if ellipsis else letters)
        shapes.append((*shape[:place], *(spread if ellipsis else ()), *shape[place:]))
    if draw(st.booleans()):
        return ",".join(texts), shapes
    letters = sorted(set("".join(operands)))
    output = draw(st.permutations(letters))[: draw(st.integers(0, len(letters)))]
    return f"{','.join(texts)}->{'...' if any(ellipses) else ''}{''.join(output)}", shapes


def drawn(shapes: list[tuple[int, ...]], dtype: Any = float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    real = [rng.standard_normal(shape) for shape in shapes]
    return real if dtype is float else [x + 1j * rng.standard_normal(x.shape) for x in real]


@given(expressions(), st.sampled_from([float, complex]))
def test_values_are_those_of_numpy(expression: tuple[str, list[tuple[int, ...]]], dtype: Any) -> None:
    subscripts, shapes = expression
    arrays = drawn(shapes, dtype)
    expected = np.einsum(subscripts, *arrays)
    found = dg.ops.einsum(subscripts, *arrays).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=40)
@given(expressions(), st.sampled_from([float, complex]))
def test_gradients_are_those_of_pytorch(expression: tuple[str, list[tuple[int, ...]]], dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    subscripts, shapes = expression
    arrays = drawn(shapes, dtype)
    tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
    value = torch.einsum(subscripts, *tensors)
    cotangent = drawn([tuple(value.shape)], dtype)[0]
    expected = torch.autograd.grad(
        value, tensors, torch.as_tensor(cotangent), allow_unused=True, materialize_grads=True
    )
    _, pull = dg.vjp(lambda *xs: dg.ops.einsum(subscripts, *xs), *arrays)
    for found, e in zip(pull(cotangent), expected, strict=True):
        np.testing.assert_allclose(found, e.numpy(force=True), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("iij,jkk->ik", [(2, 2, 3), (3, 2, 2)]),
        ("...i,...i->...", [(2, 3), (3,)]),
        ("ij,jk,kl->", [(2, 3), (3, 2), (2, 2)]),
        ("ijij->j", [(2, 3, 2, 3)]),
    ],
)
def test_second_derivatives_agree_with_differences(subscripts: str, shapes: list[tuple[int, ...]]) -> None:
    check_derivatives(lambda *xs: dg.ops.einsum(subscripts, *xs), *drawn(shapes))
    check_derivatives(lambda *xs: dg.ops.einsum(subscripts, *xs), *drawn(shapes, complex))


def test_lists_of_axes_say_the_same_as_letters() -> None:
    x, y = drawn([(2, 3), (3, 4)])
    np.testing.assert_array_equal(
        dg.ops.einsum(x, [0, 1], y, [1, 2], [2, 0]).numpy(), dg.ops.einsum("ij,jk->ki", x, y).numpy()
    )
    np.testing.assert_array_equal(dg.ops.einsum(x, [Ellipsis, 1]).numpy(), x)


@pytest.mark.parametrize(
    ("subscripts", "shapes", "message"),
    [
        ("ij,jk->ik", [(2, 3)], "names 2 operands, but 1 were given"),
        ("ij->i", [(2, 3, 4)], "'ij' does not fit an operand with 3 axes"),
        ("i1->i", [(2, 3)], "'i1' does not fit"),
        ("ij->k", [(2, 3)], "names 'k', which no operand has"),
        ("ij->ii", [(2, 3)], "names an axis twice"),
        ("...i->i", [(2, 3)], "lacks the `...`"),
        ("ij,jk->ik", [(2, 3), (4, 2)], "axis 'j' has length 3 and length 4"),
    ],
)
def test_subscripts_that_do_not_fit_are_refused(subscripts: str, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dg.ops.einsum(subscripts, *drawn(shapes))


def test_three_operands_are_contracted_from_the_cheap_end() -> None:
    # (row x matrix) x matrix, and never matrix x matrix, which would take 10**9 multiplications.
    row, matrix = np.ones((1, 1000)), np.ones((1000, 1000))
    shapes = []

    class Watched:
        """NumPy with a matmul that notes what it is given."""

        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

        def matmul(self, x: Any, y: Any) -> Any:
            shapes.append((x.shape, y.shape))
            return np.matmul(x, y)

    contract = dg.ops.contract
    contract.forward(Watched(), matrix, matrix, row, inputs=("jk", "kl", "ij"), output="il")
    assert len(shapes) == 2
    assert all(1 in (*x, *y) for x, y in shapes)


def test_single_precision_is_kept() -> None:
    x, y = (a.astype(np.float32) for a in drawn([(2, 3), (3, 2)]))
    value, pull = dg.vjp(lambda x, y: dg.ops.einsum("ij,jk->ik", x, y), x, y)
    assert {value.dtype, *(g.dtype for g in pull(value))} == {np.dtype(np.float32)}
