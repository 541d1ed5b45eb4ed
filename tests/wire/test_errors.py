from __future__ import annotations

import pytest

from distgrad import errors
from distgrad.errors import ConfigError, DistgradError, RemoteError
from distgrad.wire import Origin, error_from_pb, error_to_pb, pb
from distgrad.wire.errors import MAX_TEXT


def hop(exception: BaseException, worker: str = "w1", method: str = "stem.forward") -> DistgradError:
    message = error_to_pb(exception, worker, method)
    return error_from_pb(pb.Error.FromString(message.SerializeToString()))


OURS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DistgradError)]


@pytest.mark.parametrize("kind", [kind for kind in OURS if kind is not RemoteError], ids=lambda kind: kind.__name__)
def test_each_of_our_exceptions_keeps_its_class_text_and_origin_through_three_hops(kind: type[DistgradError]) -> None:
    first = hop(kind("shard 'a': x has shape (3,)"), "w2", "a.forward")
    last = hop(hop(first, "w1", "b.forward"), "w0", "c.forward")
    assert type(last) is kind
    assert str(last) == "shard 'a': x has shape (3,)"
    assert last.origin == Origin("w2", "a.forward", first.origin.traceback)
    assert last.__notes__ == ["raised on w2 in a.forward"]


def test_a_remote_error_keeps_all_fields_through_three_hops() -> None:
    first = RemoteError("w2", "a.forward", "ValueError", "no such mode", "Traceback: line 7")
    last = hop(hop(hop(first, "w2"), "w1"), "w0")
    assert type(last) is RemoteError
    assert vars(last) == vars(first)
    assert str(last) == str(first)


def test_a_foreign_exception_becomes_a_remote_error_that_says_all_about_it() -> None:
    class ShapeMismatch(ValueError):
        pass

    try:
        raise ShapeMismatch("got (32, 65), expected (32, 64)")
    except ShapeMismatch as error:
        received = hop(error, "w2", "head.forward")
    assert isinstance(received, RemoteError)
    assert (received.worker, received.method) == ("w2", "head.forward")
    assert received.original.endswith("ShapeMismatch")
    assert received.original_message == "got (32, 65), expected (32, 64)"
    assert "test_errors.py" in received.traceback
    assert "raise ShapeMismatch" in received.traceback


def test_an_exception_without_a_text_is_told_by_its_class_alone() -> None:
    last = hop(hop(AssertionError(), "w2", "a.forward"), "w1", "b.forward")
    assert str(last) == "a.forward on w2 raised AssertionError"


def test_a_class_derived_from_ours_arrives_as_the_nearest_class_the_peer_knows() -> None:
    class JobError(ConfigError):
        pass

    assert type(hop(JobError("bad"))) is ConfigError


def test_an_unknown_kind_becomes_a_remote_error_with_its_text() -> None:
    received = error_from_pb(pb.Error(kind="FutureError", message="from 2031", worker="w3", method="a.b"))
    assert isinstance(received, RemoteError)
    assert "FutureError" in str(received)
    assert "from 2031" in str(received)
    assert "w3" in str(received)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("broken __str__")


STRANGE = {
    "surrogates": (ValueError("\ud800"), "?"),
    "broken __str__": (Unprintable(), "RuntimeError"),
    "very long": (ValueError("x" * 10 * MAX_TEXT), "[...]"),
    "no text": (KeyboardInterrupt(), ""),
}


@pytest.mark.parametrize(("exception", "text"), STRANGE.values(), ids=STRANGE.keys())
def test_an_exception_with_a_strange_text_travels_all_the_same(exception: BaseException, text: str) -> None:
    message = error_to_pb(exception, "w1", "a.b")
    assert text in message.original_message
    assert message.ByteSize() < 5 * MAX_TEXT
    assert isinstance(error_from_pb(message), RemoteError)


def test_an_error_says_what_the_method_was_called_with_through_any_number_of_hops() -> None:
    once = error_from_pb(error_to_pb(ValueError("no"), "w1", "b.forward", "float32[3, 4]"))
    twice = error_from_pb(error_to_pb(once, "w0", "a.forward", "float32[1]"))
    assert str(twice) == "b.forward on w1 raised ValueError: no (called with float32[3, 4])"
    assert isinstance(twice, RemoteError)
    assert twice.original_message == "no"
