"""What processes and those that they start say to each other."""

from __future__ import annotations

from distgrad.worker.child import events


def test_what_is_no_event_is_passed_over() -> None:
    said = [b'{"event": "ready", "n": 1}\n', b"printed\n", b"\xff\n", b"3\n", b"{}\n", b'{"event": "st']
    assert list(events(said)) == [{"event": "ready", "n": 1}]
