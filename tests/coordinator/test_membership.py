"""Members: names, incarnations, and what is said of those that ended."""

from __future__ import annotations

from itertools import count

import pytest

from distgrad.coordinator.membership import Member, Membership
from distgrad.errors import ConfigError, PermissionDenied

_incarnations = count(1000)


def newcomer(name: str = "", role: str = "worker", **fields: object) -> Member:
    return Member(name, next(_incarnations), role, address="127.0.0.1:7400", pid=12, **fields)  # type: ignore[arg-type]


def joined(members: Membership, name: str = "", role: str = "worker", now: float = 0.0) -> Member:
    member = members.join(newcomer(name or members.choose_name(now), role), now)
    assert member is not None
    return member


def test_a_worker_that_nobody_has_named_gets_the_next_free_name() -> None:
    members = Membership()
    assert [joined(members, wish).name for wish in ["", "w1", "", "other", ""]] == ["w0", "w1", "w2", "other", "w3"]


def test_a_name_that_was_chosen_for_one_is_kept_from_others_for_a_while() -> None:
    members = Membership()
    assert [members.choose_name(now) for now in (0.0, 1.0, 30.5, 31.5)] == ["w0", "w1", "w0", "w1"]


def test_joining_is_the_event_that_tells_name_state_and_time() -> None:
    guest = newcomer("trainer", "client", programs=("mlp.py",), state="lost", reason="an old story")
    event = Membership().join(guest, now=5.0)
    assert event == Member("trainer", guest.incarnation, "client", "127.0.0.1:7400", 12, ("mlp.py",), since=5.0)


def test_a_repeated_join_changes_nothing() -> None:
    members = Membership()
    guest = newcomer("w0")
    members.join(guest, now=1.0)
    assert members.join(guest, now=2.0) is None
    assert [member.since for member in members] == [1.0]


def test_the_name_of_a_living_member_is_refused_with_what_to_do() -> None:
    members = Membership()
    joined(members, "w0")
    with pytest.raises(
        ConfigError, match=r"w0 is taken by a living worker, process 12 127\.0\.0\.1:7400; .* another name: w1"
    ):
        members.join(newcomer("w0"), now=1.0)


@pytest.mark.parametrize("name", ["-w0", "w 0", "../w0", "é", "w" * 64])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a worker"):
        Membership().join(newcomer(name), now=0.0)


@pytest.mark.parametrize("wish", ["w1", ""])
def test_a_restarted_worker_takes_the_place_of_the_lost_one(wish: str) -> None:
    members = Membership()
    for _ in range(3):
        lost = joined(members, now=0.0) if len(members) != 1 else (first := joined(members, now=0.0))
    assert lost.name == "w2"
    event = members.lose("w1", first.incarnation, "no heartbeat for 3 s", now=9.0)
    assert event is not None
    assert (event.state, event.reason, event.since, event.alive) == ("lost", "no heartbeat for 3 s", 9.0, False)
    again = members.join(newcomer(wish or members.choose_name(10.0)), now=10.0)
    assert again is not None
    assert (again.name, again.alive, again.reason) == ("w1", True, "")
    assert again.incarnation != first.incarnation
    assert len(members) == 3


def test_an_incarnation_that_was_lost_never_comes_back() -> None:
    members = Membership()
    member = joined(members)
    members.lose("w0", member.incarnation, "cut off", now=1.0)
    with pytest.raises(
        PermissionDenied, match=r"w0, process 12, was declared lost \(cut off\).*start the process again"
    ):
        members.join(member, now=2.0)


def test_late_news_of_an_earlier_incarnation_changes_nothing() -> None:
    members = Membership()
    first = joined(members)
    members.lose("w0", first.incarnation, "killed", now=1.0)
    second = joined(members, "w0")
    assert members.lose("w0", first.incarnation, "killed", now=2.0) is None
    assert members.leave("w0", first.incarnation, "done", now=2.0) is None
    assert members.get("w0") == second


def test_an_end_is_told_once() -> None:
    members = Membership()
    member = joined(members)
    assert members.leave("w0", member.incarnation, "done", now=1.0) is not None
    assert members.lose("w0", member.incarnation, "silent", now=2.0) is None
    assert members.lose("w9", 1, "silent", now=2.0) is None
    (left,) = members
    assert (left.state, left.reason) == ("left", "done")


def test_why_nobody_takes_the_place_of_a_lost_one_is_told_with_its_loss() -> None:
    members = Membership()
    first = joined(members)
    assert members.give_up(first.name, "no room") is None
    members.lose(first.name, first.incarnation, "silent", now=1.0)
    told = members.give_up(first.name, "no room")
    assert told is not None
    assert (told.state, told.reason) == ("lost", "silent; no room")


def test_workers_are_the_living_ones_in_natural_order() -> None:
    members = Membership()
    for name in ("w10", "w2", "head"):
        joined(members, name)
    joined(members, "driver", "client")
    gone = joined(members, "w3")
    members.leave("w3", gone.incarnation, "done", now=1.0)
    assert [member.name for member in members.workers()] == ["head", "w2", "w10"]


def test_those_who_ended_are_forgotten_after_a_while_and_the_living_never() -> None:
    members = Membership()
    for now in (1.0, 2.0, 3.0):
        client = joined(members, f"c{now:.0f}", "client", now=0.0)
        members.leave(client.name, client.incarnation, "done", now)
    joined(members, "w0")
    members.forget(before=2.0)
    assert [member.name for member in members] == ["c2", "c3", "w0"]
    assert repr(members) == "<Membership c2 left, c3 left, w0 alive>"
