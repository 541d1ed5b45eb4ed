"""What a server says went wrong -> exceptions."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from distgrad.errors import (
    Cancelled,
    DistgradError,
    GradientError,
    LinkError,
    NotServed,
    PermissionDenied,
    RemoteError,
    RequestError,
    ResourceExhausted,
    SessionLost,
    Timeout,
    WireError,
)
from distgrad.wire import pb

_DETAILS = "grpc-status-details-bin"


def exception_for(failure: pb.Failure, function: str, address: str, in_session: bool = False) -> DistgradError:
    """The exception that a failure stands for.

    Arguments:
        function: whose product was asked for; empty when it was nobody's.
        address: of the server.
        in_session: it was asked for in a session, which is then what was not found.
    """
    make = _BY_CODE.get(failure.code, _other)
    if in_session and failure.code == grpc.StatusCode.NOT_FOUND.value[0]:
        make = _of(SessionLost)
    return make(failure, function, address)


def exception_for_rpc(error: grpc.RpcError, function: str, address: str) -> DistgradError:
    """The exception that the end of a gRPC call stands for; with what its trailing metadata say, if they do."""
    code = error.code() or grpc.StatusCode.UNKNOWN
    failure = _in_details(error) or pb.Failure(code=code.value[0], message=error.details() or code.name)
    return exception_for(failure, function, address)


def _in_details(error: grpc.RpcError) -> pb.Failure | None:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS:
            failure = pb.Failure()
            for detail in pb.StatusDetails.FromString(value).details:
                if detail.Unpack(failure):
                    return failure
    return None


def _of(kind: type[DistgradError]) -> Callable[[pb.Failure, str, str], DistgradError]:
    def make(failure: pb.Failure, function: str, address: str) -> DistgradError:
        return kind(_text(failure, address))

    return make


def _text(failure: pb.Failure, address: str) -> str:
    return f"{address}: {failure.message}"


def _unfit(failure: pb.Failure, function: str, address: str) -> DistgradError:
    violations = tuple((v.field, v.expected, v.got) for v in failure.violations)
    return RequestError(_text(failure, address), violations)


def _exhausted(failure: pb.Failure, function: str, address: str) -> DistgradError:
    return ResourceExhausted(_text(failure, address), retry_after=failure.retry_after)


def _raised(failure: pb.Failure, function: str, address: str) -> DistgradError:
    raised = failure.exception
    if not raised.type:
        return LinkError(_text(failure, address))
    where = f'File "{raised.file}", line {raised.line}\n    {raised.source}' if raised.file else ""
    return RemoteError(address, function, raised.type, raised.message, where)


def _other(failure: pb.Failure, function: str, address: str) -> DistgradError:
    status = next((code.name for code in grpc.StatusCode if code.value[0] == failure.code), str(failure.code))
    return WireError(f"{_text(failure, address)} ({status})")


_BY_CODE: dict[int, Callable[[pb.Failure, str, str], DistgradError]] = {
    code.value[0]: make
    for code, make in {
        grpc.StatusCode.NOT_FOUND: _of(NotServed),
        grpc.StatusCode.INVALID_ARGUMENT: _unfit,
        grpc.StatusCode.FAILED_PRECONDITION: _of(GradientError),
        grpc.StatusCode.RESOURCE_EXHAUSTED: _exhausted,
        grpc.StatusCode.INTERNAL: _raised,
        grpc.StatusCode.UNAVAILABLE: _of(LinkError),
        grpc.StatusCode.ABORTED: _of(SessionLost),
        grpc.StatusCode.DEADLINE_EXCEEDED: _of(Timeout),
        grpc.StatusCode.CANCELLED: _of(Cancelled),
        grpc.StatusCode.UNAUTHENTICATED: _of(PermissionDenied),
        grpc.StatusCode.PERMISSION_DENIED: _of(PermissionDenied),
    }.items()
}
