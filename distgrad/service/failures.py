"""Why a request got no answer: exceptions on the way to a `pb.Failure`."""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

from distgrad.errors import DistgradError
from distgrad.wire import pb

from .specs import Violation

# Texts of exceptions are written by strangers; a repr of a large array must not become a large message.
MAX_TEXT = 5000


class Code(IntEnum):
    """gRPC's status codes that the service uses."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class Refused(DistgradError):
    """A request gets no answer, and this is why.

    Attributes:
        retry_after: seconds; 0: trying again does not help.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        violations: Sequence[Violation] = (),
        exception: pb.UserException | None = None,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.violations = violations
        self.exception = exception
        self.retry_after = retry_after

    def to_pb(self) -> pb.Failure:
        failure = pb.Failure(
            code=self.code, message=_sendable(str(self)), retry_after=self.retry_after, exception=self.exception
        )
        for violation in self.violations:
            failure.violations.add(
                field=_sendable(violation.field),
                expected=_sendable(violation.expected),
                got=_sendable(violation.got),
            )
        return failure


def does_not_fit(violations: Sequence[Violation], function: str) -> Refused:
    """What was sent does not fit the function."""
    said = "; ".join(map(str, violations))
    return Refused(Code.INVALID_ARGUMENT, f"{function}: {said}" if function else said, violations)


def raised(error: BaseException, function: str, files: Sequence[Path]) -> Refused:
    """The function raised.

    Arguments:
        files: folders of the served programs; the innermost line in one of them is told.
    """
    kind, text = type(error).__qualname__, _text(error)
    where = pb.UserException(type=kind, message=text)
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if any(path.is_relative_to(folder) for folder in files):
            where.file, where.line = path.name, frame.lineno or 0
            where.source = linecache.getline(frame.filename, frame.lineno or 0).strip()
    line = f" ({where.file}, line {where.line})" if where.file else ""
    return Refused(Code.INTERNAL, f"{function} raised {kind}: {text}{line}", exception=where)


def fatal(function: str, times: int, ending: str) -> Refused:
    """Every process that ran the request was lost. Most likely the function ends them, so the client is not told to
    send the request again, which would cost others their processes too.

    Arguments:
        ending: how the last one ended: "was killed by signal 9 (SIGKILL)".
    """
    text = f"the process that ran the request was lost, {times} times; the last one {ending}"
    return Refused(Code.INTERNAL, f"{function}: {text}", exception=pb.UserException(type="WorkerLost", message=text))


def details(failure: pb.Failure) -> bytes:
    """What the trailing metadata "grpc-status-details-bin" holds."""
    status = pb.StatusDetails(code=failure.code, message=failure.message)
    status.details.add().Pack(failure)
    return status.SerializeToString()


def _text(error: BaseException) -> str:
    try:
        return _sendable(str(error))
    except Exception as other:  # a user's __str__ may itself be broken; its exception is what there is to say
        return f"(its text cannot be made: {type(other).__qualname__})"


def _sendable(text: str) -> str:
    text = text.encode(errors="replace").decode()
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "[...]"
