"""The first frames of a lane: who is there, and whether they belong together."""

from __future__ import annotations

import hmac

from distgrad.errors import DistgradError, LinkError, PermissionDenied, ResourceExhausted, WireError, WorkerLost
from distgrad.wire import pb

from .interfaces import Identity
from .settings import TransportSettings

PROTOCOL = 1
MAX_NAME = 200

_ROLES = {"client": pb.ROLE_CLIENT, "worker": pb.ROLE_WORKER, "coordinator": pb.ROLE_COORDINATOR}
_ROLE_NAMES = {number: name for name, number in _ROLES.items()}


class Duplicate(LinkError):
    """Both sides opened a link at once, and the other one stays."""


# The exception that an opener raises when it gets this reason instead of a Welcome.
_EXCEPTIONS: dict[int, type[DistgradError]] = {
    pb.REASON_UNAUTHENTICATED: PermissionDenied,
    pb.REASON_STALE: WorkerLost,
    pb.REASON_DUPLICATE: Duplicate,
    pb.REASON_BAD_FRAME: WireError,
    pb.REASON_RESOURCE_EXHAUSTED: ResourceExhausted,
}


def identity_to_pb(identity: Identity) -> pb.Identity:
    return pb.Identity(
        name=identity.name,
        incarnation=identity.incarnation,
        role=_ROLES[identity.role],
        address=identity.address,
        pid=identity.pid,
    )


def identity_from_pb(message: pb.Identity) -> Identity:
    """Who a message names. Raises WireError when that cannot be a process of a cluster."""
    name = message.name
    if not (0 < len(name) <= MAX_NAME and name.isprintable()):
        raise WireError(f"a process's name must be 1 to {MAX_NAME} printable characters, found {name[:MAX_NAME]!r}")
    if message.incarnation == 0:
        raise WireError(f"{name} came without an incarnation")
    if message.role not in _ROLE_NAMES:
        raise WireError(f"{name} came with unknown role {message.role}")
    return Identity(name, message.incarnation, _ROLE_NAMES[message.role], message.address, message.pid)


def greeting(identity: Identity, settings: TransportSettings, expected_incarnation: int = 0) -> pb.Hello:
    """What an opener says first."""
    return pb.Hello(
        protocol=PROTOCOL,
        cluster=settings.cluster,
        token=settings.token,
        identity=identity_to_pb(identity),
        expected_incarnation=expected_incarnation,
    )


def refusal(hello: pb.Hello, identity: Identity, settings: TransportSettings) -> pb.Goodbye | None:
    """Why a listener does not let an opener in; None when it does. Strangers learn only that they are strangers."""
    if hello.protocol != PROTOCOL:
        return pb.Goodbye(
            reason=pb.REASON_PROTOCOL_MISMATCH,
            message=f"it speaks protocol {PROTOCOL}, found {hello.protocol}: use the same version of distgrad",
        )
    if not _token_is_good(hello, settings):
        return pb.Goodbye(reason=pb.REASON_UNAUTHENTICATED, message="the token is not accepted there")
    if hello.cluster != settings.cluster:
        return pb.Goodbye(
            reason=pb.REASON_WRONG_CLUSTER,
            message=f"it belongs to cluster {settings.cluster!r}, not to {hello.cluster!r}",
        )
    if hello.expected_incarnation not in (0, identity.incarnation):
        return pb.Goodbye(
            reason=pb.REASON_STALE,
            message=f"{identity!r} is there, not incarnation #{hello.expected_incarnation & 0xFFFF:04x}",
        )
    return None


def _token_is_good(hello: pb.Hello, settings: TransportSettings) -> bool:
    """Compares with every token in constant time, so that timing tells nothing."""
    found = hello.token.encode()
    good = hmac.compare_digest(found, settings.token.encode())
    for token in settings.client_tokens:
        same = hmac.compare_digest(found, token.encode())
        good |= same and hello.identity.role == pb.ROLE_CLIENT
    return good


def exception_for(goodbye: pb.Goodbye, name: str, address: str) -> DistgradError:
    """What an opener raises when it got this instead of a Welcome."""
    kind = _EXCEPTIONS.get(goodbye.reason, LinkError)
    return kind(f"{name} at {address} refused the link: {goodbye.message}")
