"""Random numbers that depend on names alone."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from distgrad import nn
from distgrad.nn import initialise, random


def weights(*scope: object) -> list[np.ndarray]:
    with random.seeded(*scope):  # type: ignore[arg-type]
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    return [p.numpy() for p in model.parameters()]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_weights_depend_on_seed_and_names_alone() -> None:
    reference = weights(7, "stem")
    assert same(reference, weights(7, "stem"))
    assert not same(reference, weights(8, "stem"))
    assert not same(reference, weights(7, "head"))


def test_layers_of_one_shape_differ() -> None:
    first, _, second, _ = weights(7)
    assert not np.array_equal(first, second)


def test_weights_do_not_depend_on_what_ran_before_or_in_another_thread() -> None:
    reference = weights(7, "stem")
    found: list[list[np.ndarray]] = []
    with random.seeded(1):
        nn.Linear(3, 3)
        thread = threading.Thread(target=lambda: found.append(weights(7, "stem")))
        thread.start()
        thread.join()
        assert same(reference, weights(7, "stem"))
    assert same(reference, found[0])


def test_an_inner_scope_leaves_the_outer_ones_count_alone() -> None:
    with random.seeded(3) as outer:
        random.next_key()
        with random.seeded(4):
            random.next_key()
        assert random.next_key() == random.key(3, 1)
    assert repr(outer) == "Scope(seed=3, names=())"


def test_keys_tell_names_apart_whatever_their_types_and_seams() -> None:
    keys = [random.key(0, *names) for names in (("a", "b"), ("ab",), ("a",), (1,), ("1",), (), (1, 1), (11,))]
    assert len(set(keys)) == len(keys)
    # Written down: weights of today must be those of next year.
    assert random.key(0, "stem", 1) == 113469392316797672553614538510553533521


def test_generators_of_different_names_are_independent() -> None:
    a, b = (random.generator(0, name).standard_normal(20_000) for name in "ab")
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03


# ---- initialisers ----------------------------------------------------------------------------------------------------

SHAPE = (400, 300)


@pytest.mark.parametrize(
    ("draw", "std"),
    [
        (initialise.xavier_uniform, (2 / 700) ** 0.5),
        (initialise.xavier_normal, (2 / 700) ** 0.5),
        (initialise.kaiming_uniform, (2 / 300) ** 0.5),
        (initialise.kaiming_normal, (2 / 300) ** 0.5),
        (lambda shape, rng: initialise.kaiming_normal(shape, rng, gain=1.0, mode="out"), (1 / 400) ** 0.5),
        (lambda shape, rng: initialise.normal(shape, rng, std=0.3), 0.3),
        (lambda shape, rng: initialise.uniform(shape, rng, -1, 1), 3**-0.5),
        (lambda shape, rng: initialise.fan_in_uniform(shape, rng, 300), (1 / 900) ** 0.5),
        (lambda shape, rng: initialise.truncated_normal(shape, rng, std=1.0), 0.8796),
    ],
)
def test_an_initialiser_has_the_deviation_its_formula_says(draw, std: float, rng: np.random.Generator) -> None:
    values = draw(SHAPE, rng)
    assert values.dtype == np.float32
    assert values.shape == SHAPE
    assert values.std() == pytest.approx(std, rel=0.02)
    assert abs(values.mean()) < 0.02 * std


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5), (6, 2, 3)])
def test_orthogonal_weights_keep_lengths(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    w = initialise.orthogonal(shape, rng, gain=2.0, dtype="float64").reshape(shape[0], -1)
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-12)


def test_truncated_values_are_within_the_limit(rng: np.random.Generator) -> None:
    values = initialise.truncated_normal((1000,), rng, mean=1.0, std=0.5, limit=1.5)
    assert np.abs(values - 1).max() <= 0.75


def test_fans_count_kernels_and_refuse_vectors() -> None:
    assert initialise.fans((8, 3, 5, 5)) == (75, 200)
    with pytest.raises(nn.initialise.ConfigError, match=r"shape \(3,\)"):
        initialise.fans((3,))
    with pytest.raises(nn.initialise.ConfigError, match="known are linear"):
        initialise.gain("swish")
    assert initialise.gain("relu") == pytest.approx(2**0.5)
