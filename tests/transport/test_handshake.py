from __future__ import annotations

import pytest

from distgrad.errors import DistgradError, LinkError, PermissionDenied, ResourceExhausted, WireError, WorkerLost
from distgrad.transport import Identity, TransportSettings
from distgrad.transport.handshake import exception_for, greeting, identity_from_pb, identity_to_pb, refusal
from distgrad.wire import pb

SETTINGS = TransportSettings(cluster="c", token="secret", client_tokens=("guest",))
LISTENER = Identity("b", 0xABCD, "worker", "127.0.0.1:7", 9)


@pytest.mark.parametrize("role", ["client", "worker", "coordinator"])
def test_an_identity_arrives_as_it_left(role: str) -> None:
    identity = Identity.new("w0", role, "unix:/x")
    assert identity_from_pb(pb.Identity.FromString(identity_to_pb(identity).SerializeToString())) == identity


def test_every_start_has_its_own_incarnation_and_shows_its_end() -> None:
    assert len({Identity.new("w0", "worker").incarnation for _ in range(50)}) == 50
    assert repr(LISTENER) == "b#abcd"


MALFORMED = {
    "no name": pb.Identity(incarnation=1, role=pb.ROLE_WORKER),
    "a name that writes lines into logs": pb.Identity(name="a\nb", incarnation=1, role=pb.ROLE_WORKER),
    "a very long name": pb.Identity(name="a" * 1000, incarnation=1, role=pb.ROLE_WORKER),
    "no incarnation": pb.Identity(name="a", role=pb.ROLE_WORKER),
    "no role": pb.Identity(name="a", incarnation=1),
}


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_identity_is_a_wire_error(message: pb.Identity) -> None:
    with pytest.raises(WireError):
        identity_from_pb(message)


def hello(**changes: object) -> pb.Hello:
    message = greeting(Identity.new("a", str(changes.pop("role", "worker"))), SETTINGS)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


DECISIONS = [
    ({}, None),
    ({"expected_incarnation": 0xABCD}, None),
    ({"role": "client", "token": "guest"}, None),
    ({"role": "worker", "token": "guest"}, pb.REASON_UNAUTHENTICATED),
    ({"token": ""}, pb.REASON_UNAUTHENTICATED),
    ({"token": "sécret"}, pb.REASON_UNAUTHENTICATED),
    ({"protocol": 2}, pb.REASON_PROTOCOL_MISMATCH),
    ({"cluster": "d"}, pb.REASON_WRONG_CLUSTER),
    ({"cluster": "d", "token": "wrong"}, pb.REASON_UNAUTHENTICATED),
    ({"expected_incarnation": 1}, pb.REASON_STALE),
]


@pytest.mark.parametrize(("changes", "reason"), DECISIONS, ids=str)
def test_who_is_let_in(changes: dict[str, object], reason: int | None) -> None:
    goodbye = refusal(hello(**changes), LISTENER, SETTINGS)
    assert (goodbye and goodbye.reason) == reason


def test_a_stranger_learns_nothing_about_the_cluster() -> None:
    goodbye = refusal(hello(token="wrong", cluster="d"), LISTENER, SETTINGS)
    assert goodbye is not None
    assert goodbye.message == "the token is not accepted there"


EXCEPTIONS = [
    (pb.REASON_UNAUTHENTICATED, PermissionDenied),
    (pb.REASON_WRONG_CLUSTER, LinkError),
    (pb.REASON_PROTOCOL_MISMATCH, LinkError),
    (pb.REASON_STALE, WorkerLost),
    (pb.REASON_BAD_FRAME, WireError),
    (pb.REASON_RESOURCE_EXHAUSTED, ResourceExhausted),
    (pb.REASON_CLOSED, LinkError),
    (77, LinkError),
]


@pytest.mark.parametrize(("reason", "kind"), EXCEPTIONS, ids=str)
def test_a_refusal_becomes_an_exception_that_says_whose_and_why(reason: int, kind: type[DistgradError]) -> None:
    error = exception_for(pb.Goodbye(reason=reason, message="because"), "b", "127.0.0.1:7")
    assert type(error) is kind
    assert str(error) == "b at 127.0.0.1:7 refused the link: because"
