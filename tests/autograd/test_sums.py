"""Sums that grow."""

from __future__ import annotations

import numpy as np

from distgrad.autograd.sums import Total

PARTS = np.random.default_rng(0).standard_normal((5, 1000)).astype(np.float32)


def test_a_total_has_the_bits_of_a_sum_in_order_and_leaves_its_parts_as_they_are() -> None:
    given = [part.copy() for part in PARTS]
    total = Total()
    for part in given:
        total.accumulate(part)
        total.accumulate(None)
    expected = (((PARTS[0] + PARTS[1]) + PARTS[2]) + PARTS[3]) + PARTS[4]
    assert total.total.tobytes() == expected.tobytes()
    assert np.array_equal(given, PARTS)


def test_a_total_is_added_to_in_place_until_somebody_has_seen_it() -> None:
    total = Total()
    for part in PARTS[:2]:
        total.accumulate(part)
    array = total.total
    total.accumulate(PARTS[2])
    assert total.total is array
    seen = total.seen()
    before = seen.copy()
    total.accumulate(PARTS[3])
    assert np.array_equal(seen, before)
    assert not np.array_equal(total.total, before)
