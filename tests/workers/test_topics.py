"""The texts of the gpt and embedding jobs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distgrad.worker.programs import Programs

PROGRAMS = Programs(Path(__file__).parents[2] / "workers")
Topics = PROGRAMS.find("topics.py:Topics")
Ngrams = PROGRAMS.find("ngrams.py:Ngrams")


def test_targets_are_the_characters_that_follow() -> None:
    data = Topics(batch=4, length=9, seed=3)
    for x, y in (data.batch(5), data.held_out()):
        assert x.shape == y.shape
        assert x.shape[1] == 9
        np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
    text = "".join(data.alphabet[number] for number in data.held_out()[0].reshape(-1))
    assert "object" in text
    assert len(data.text) > 400_000


@pytest.mark.parametrize("kind", [lambda seed: Topics(4, 9, seed=seed), lambda seed: Ngrams(4, 100, 3, seed=seed)])
def test_a_batch_depends_on_step_and_seed_alone(kind: type) -> None:
    first, again, other = kind(1), kind(1), kind(2)
    first.batch(0)
    for one, two in zip(first.batch(7), again.batch(7), strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first.batch(7)[0], other.batch(7)[0])
    assert not np.array_equal(first.batch(7)[0], first.batch(8)[0])


def test_the_end_of_the_text_is_never_trained_on() -> None:
    data = Topics(batch=2000, length=50)
    data.text[:] = np.arange(len(data.text))  # a character is told apart by its place; train and test are views
    latest = max(data.batch(step)[1].max() for step in range(20))
    assert latest < data.held_out()[0].min()
    grams = Ngrams(batch=2000, rows=1 << 16, orders=5)
    assert max(grams.places) < min(grams.test)


def test_too_few_symbols_are_refused() -> None:
    with pytest.raises(ValueError, match="different characters, more than symbols=64"):
        Topics(batch=1, length=1, symbols=64)


def test_a_sample_is_what_the_scores_make_likely() -> None:
    data = Topics(batch=1, length=16)
    lengths = set()

    def scores(text: np.ndarray) -> np.ndarray:
        lengths.add(text.shape)
        return np.where(np.arange(128) == (text[:, -1] + 1) % 5, 0.0, -1000.0)[None]

    written = data.sample(scores)
    assert lengths == {(1, 14), (1, 15), (1, 16)}
    assert written.startswith("The following ")
    assert written[14:19] * 60 == written[14:]


def test_ngrams_share_a_number_when_their_characters_are_the_same() -> None:
    data = Ngrams(batch=1, rows=1 << 40, orders=3)
    numbers, text = data.numbers[:20_000], data.text[:20_000]
    for order in range(3):
        grams = [tuple(text[place - order : place + 1]) for place in range(3, len(text))]
        pairs = set(zip(grams, numbers[3:, order], strict=True))
        assert len(pairs) == len(set(grams)) == len(set(numbers[3:, order]))
    assert Ngrams(batch=1, rows=10, orders=3).numbers.max() == 9


def test_numbers_of_ngrams_are_below_the_number_of_rows() -> None:
    numbers = Ngrams(batch=1, rows=1000, orders=5).numbers
    assert (numbers.min(), numbers.max()) == (0, 999)
