"""Links with lossy encodings: off unless asked for, off by little, and gradients in the end by nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd.rows import Rows
from distgrad.errors import ConfigError
from distgrad.graph.lossy import Encoder
from distgrad.transport.settings import Lossy
from distgrad.wire.encodings import ENCODINGS, LEAST, Encoded, decode

from .memory_cluster import memory_cluster

N = 2 * LEAST


class Scale:
    """Multiplies by its factors, each element by another."""

    def __init__(self) -> None:
        self.factors = dg.tensor(np.random.default_rng(1).standard_normal(N), requires_grad=True)

    def forward(self, x: Any) -> Any:
        return x * self.factors

    def loss(self, x: Any) -> Any:
        return (x * self.factors).sum()


def gradients(lossy: Lossy, steps: int = 1, placement: tuple[str, str] = ("w0", "w1")) -> list[np.ndarray]:
    """Gradients of the first of two shards in successive contexts, the same step every time."""
    x = np.random.default_rng(2).standard_normal(N)
    found = []
    with memory_cluster(2, lossy=lossy) as cluster:
        first, second = Scale(), Scale()
        a, b = cluster.place("a", first, placement[0]), cluster.place("b", second, placement[1])
        for _ in range(steps):
            with cluster.context() as ctx:
                ctx.backward(b.loss(a.forward(x)))
                found.append(ctx.gradients(a)["factors"])
    return found


EXACT = gradients(Lossy())[0]


def test_nothing_is_encoded_unless_asked_for() -> None:
    assert Encoder.of(Lossy(), "w0") is None


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("what", ["values", "gradients"])
def test_a_gradient_is_off_by_little(encoding: str, what: str) -> None:
    off = gradients(Lossy(**{what: encoding}))[0] - EXACT
    assert 0 < np.abs(off).max() < 0.1 * np.abs(EXACT).max()


def test_what_stays_within_a_process_or_goes_to_other_peers_is_exact() -> None:
    everything = Lossy(gradients="int8")
    assert np.array_equal(gradients(everything, placement=("w0", "w0"))[0], EXACT)
    assert np.array_equal(gradients(Lossy(gradients="int8", peers=("w1",)))[0], EXACT)  # they go to w0
    assert not np.array_equal(gradients(Lossy(gradients="int8", peers=("w0",)))[0], EXACT)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_encoding_leaves_out_is_added_to_the_next_gradient(encoding: str) -> None:
    steps = 50
    sums = np.cumsum(gradients(Lossy(gradients=encoding), steps), axis=0)
    off = [np.abs(sums[k - 1] - k * EXACT).max() for k in (1, steps)]
    assert 0 < off[1] <= 2 * off[0]  # without feedback it would grow to fifty times as much


def test_the_same_program_gives_the_same_bits_again() -> None:
    lossy = Lossy(values="bf16", gradients="int8")
    assert np.array_equal(gradients(lossy, 5), gradients(lossy, 5))


def test_second_derivatives_cross_lossy_links() -> None:
    x = np.random.default_rng(3).standard_normal(N)
    with memory_cluster(2, lossy=Lossy(values="bf16", gradients="bf16")) as cluster:
        a = cluster.place("a", Scale(), "w0")
        with cluster.context():
            product = dg.hvp(lambda t: (a.forward(t).get() ** 2).sum())(x, np.ones(N))
    factors = Scale().factors.numpy()
    assert np.allclose(product, 2 * factors**2, rtol=0.05, atol=0.05)


def test_rows_are_encoded_without_feedback() -> None:
    encoder = Encoder(Lossy(gradients="int8"), "me")
    values = np.random.default_rng(4).standard_normal((2, LEAST))
    first, second = (encoder.gradient(Rows(np.array([0, 5]), values, 9), "w0", "driver", "way") for _ in range(2))
    assert isinstance(first.values, Encoded)
    assert np.array_equal(decode(first.values), decode(second.values))


def remembered(encoder: Encoder, peer: str = "w0", owner: str = "driver", way: str = "way") -> bool:
    """Whether a gradient of ones that takes this way is given something of one before."""
    ones = np.ones(N)
    return not np.array_equal(decode(encoder.gradient(ones, peer, owner, way)), decode(fresh(ones)))


def fresh(gradient: np.ndarray) -> Any:
    return Encoder(Lossy(gradients="fp16"), "me").gradient(gradient, "w0", "driver", "way")


@pytest.mark.parametrize("gone", ["w0", "driver"])
def test_what_was_left_out_is_forgotten_with_the_peer_and_with_the_owner(gone: str) -> None:
    encoder = Encoder(Lossy(gradients="fp16"), "me")
    third = np.full(N, 1e4 / 3)
    encoder.gradient(third, "w0", "driver", "way")
    encoder.forget("another")
    assert remembered(encoder)
    encoder.gradient(third, "w0", "driver", "way")
    encoder.forget(gone)
    assert not remembered(encoder)


def test_what_was_left_out_longest_ago_is_forgotten_when_there_is_too_much() -> None:
    third = np.full(N, 1e4 / 3)
    encoder = Encoder(Lossy(gradients="fp16"), "me", max_kept=2 * third.nbytes)
    for way in ("one", "two", "three"):
        encoder.gradient(third, "w0", "driver", way)
    assert [remembered(encoder, way=way) for way in ("three", "two", "one")] == [True, True, False]


def test_a_gradient_that_is_not_finite_leaves_nothing_for_the_next() -> None:
    encoder = Encoder(Lossy(gradients="fp16"), "me")
    bad = np.full(N, 1e4 / 3)
    bad[7] = np.nan
    encoder.gradient(bad, "w0", "driver", "way")
    assert not remembered(encoder)


@pytest.mark.parametrize("settings", [{"values": "int4"}, {"gradients": "zip"}])
def test_an_unknown_encoding_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="expected bf16, fp16, int8, or nothing"):
        Lossy(**settings)
