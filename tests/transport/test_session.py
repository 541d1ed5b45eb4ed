from __future__ import annotations

import random
from collections import deque

import pytest

from distgrad.errors import WireError
from distgrad.transport.session import Session


class Side:
    """One end: sends the numbers from 0 up, notes what it got."""

    def __init__(self) -> None:
        self.session: Session[tuple[int, int]] = Session(acknowledge_after=50)
        self.made = 0
        self.got: list[int] = []
        # (sequence, content, acknowledged) on the way to the other side
        self.wire: deque[tuple[int, int, int]] = deque()

    def write(self, limit: int) -> None:
        again = self.session.take_again()
        if again is not None:
            self.wire.append((*again, self.session.tell()))
        elif self.made < limit:
            frame = (self.session.sent + 1, self.made)
            self.made += 1
            self.wire.append((*frame, self.session.tell()))
            self.session.keep(frame, 10)
        elif self.session.owes_acknowledgement:
            self.wire.append((0, -1, self.session.tell()))

    def read(self, frame: tuple[int, int, int]) -> None:
        sequence, content, acknowledged = frame
        if acknowledged > self.session.acknowledged:
            self.session.acknowledge(acknowledged)
        if sequence and self.session.accept(sequence, 10):
            self.got.append(content)


@pytest.mark.parametrize("seed", range(60))
def test_everything_arrives_once_and_in_order_whatever_the_lanes_do(seed: int) -> None:
    choose = random.Random(seed)
    left, right = Side(), Side()
    limit = 200
    for step in range(200_000):
        if len(left.got) == len(right.got) == limit and left.session.kept == right.session.kept == 0:
            break
        one, other = choose.choice([(left, right), (right, left)])
        move = choose.random()
        if move < 0.01 and step < 20_000:
            left.wire.clear()
            right.wire.clear()
            left.session.resume(right.session.received)
            right.session.resume(left.session.received)
        elif move < 0.5:
            one.write(limit)
        elif one.wire:
            frame = one.wire[0] if move < 0.55 else one.wire.popleft()
            other.read(frame)
        assert left.session.kept <= left.made
    assert left.got == right.got == list(range(limit))
    assert left.session.kept == right.session.kept == 0
    assert left.session.sent_again + right.session.sent_again > 0
    assert left.session.duplicates + right.session.duplicates > 0


def three_sent() -> Session[str]:
    session: Session[str] = Session(acknowledge_after=100)
    for frame in "abc":
        session.keep(frame, 5)
    return session


def test_what_is_acknowledged_is_let_go_with_its_weight() -> None:
    session = three_sent()
    assert (session.acknowledge(2), session.kept) == (10, 1)
    assert (session.acknowledge(2), session.kept) == (0, 1)
    assert (session.acknowledge(3), session.kept) == (5, 0)


def test_after_a_reconnect_the_rest_is_sent_again_before_anything_new() -> None:
    session = three_sent()
    assert session.take_again() is None
    assert session.resume(1) == 5
    assert (session.take_again(), session.take_again(), session.take_again()) == ("b", "c", None)
    assert session.sent_again == 2


def test_an_acknowledgement_while_sending_again_skips_what_it_covers() -> None:
    session = three_sent()
    session.resume(0)
    assert session.take_again() == "a"
    session.acknowledge(2)
    assert (session.take_again(), session.take_again()) == ("c", None)


def test_a_gap_is_a_wire_error_and_a_duplicate_is_not() -> None:
    session: Session[str] = Session(acknowledge_after=100)
    assert session.accept(1, 1)
    assert not session.accept(1, 1)
    with pytest.raises(WireError, match="frame 3 arrived after frame 1"):
        session.accept(3, 1)
    assert session.received == 1
    assert session.duplicates == 1


def test_acknowledging_what_was_never_sent_is_a_wire_error() -> None:
    with pytest.raises(WireError, match="frame 4 was acknowledged, only 3 were sent"):
        three_sent().acknowledge(4)
    with pytest.raises(WireError, match="only 3 were sent"):
        three_sent().resume(4)


def test_what_was_acknowledged_while_the_peer_was_shaking_hands_is_not_sent_again() -> None:
    session = three_sent()
    session.acknowledge(2)
    assert session.resume(1) == 0
    assert (session.take_again(), session.take_again()) == ("c", None)


def test_an_acknowledgement_is_owed_from_the_first_frame_and_urgent_after_enough_bytes() -> None:
    session: Session[str] = Session(acknowledge_after=100)
    assert not session.owes_acknowledgement
    session.accept(1, 60)
    assert session.owes_acknowledgement
    assert not session.acknowledgement_is_urgent
    session.accept(2, 60)
    assert session.acknowledgement_is_urgent
    assert session.tell() == 2
    assert not session.owes_acknowledgement
    assert not session.acknowledgement_is_urgent
