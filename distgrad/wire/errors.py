"""Exceptions <-> `pb.Error`, through any number of hops."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from distgrad import errors
from distgrad.errors import DistgradError, RemoteError

from . import pb

# Texts of exceptions are written by strangers; a repr of a large array must not become a large frame.
MAX_TEXT = 20_000

_KINDS: dict[str, type[DistgradError]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, DistgradError)
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an exception that came over the wire was raised; its `origin` attribute. The traceback is text."""

    worker: str
    method: str
    traceback: str


def error_to_pb(exception: BaseException, worker: str, method: str, arguments: str = "") -> pb.Error:
    """The message for an exception that leaves this process.

    distgrad's own exceptions keep their class. Any other becomes a RemoteError that names `worker`, `method`, the
    original type, text and traceback. What came from another process keeps where it came from.

    Arguments:
        worker: this process.
        method: "SHARD.METHOD" or "FILE.py:FUNCTION" that was running here.
        arguments: what it was called with, in words.
    """
    if isinstance(exception, RemoteError):
        return pb.Error(
            kind="RemoteError",
            message=_sendable(str(exception)),
            worker=_sendable(exception.worker),
            method=_sendable(exception.method),
            original=_sendable(exception.original),
            original_message=_sendable(exception.original_message),
            traceback=_sendable(exception.traceback, keep_end=True),
            arguments=_sendable(exception.arguments),
        )
    origin: Origin = getattr(exception, "origin", None) or Origin(worker, method, _traceback(exception))
    original, text = type(exception).__qualname__, _text(exception)
    kind = next((base.__name__ for base in type(exception).__mro__ if _KINDS.get(base.__name__) is base), None)
    remote = RemoteError(origin.worker, origin.method, original, text, arguments=arguments)
    return pb.Error(
        kind=kind or "RemoteError",
        message=text if kind else _sendable(str(remote)),
        worker=origin.worker,
        method=origin.method,
        original=original,
        original_message=text,
        traceback=origin.traceback,
        arguments=_sendable(arguments),
    )


def error_from_pb(message: pb.Error) -> DistgradError:
    """The exception a message stands for; an unknown kind, from a newer peer, becomes a RemoteError."""
    kind = _KINDS.get(message.kind, RemoteError)
    if issubclass(kind, RemoteError):
        return RemoteError(
            message.worker,
            message.method,
            message.original or message.kind,
            message.original_message if message.original else message.message,
            message.traceback,
            message.arguments,
        )
    error = kind(message.message)
    error.origin = Origin(message.worker, message.method, message.traceback)  # type: ignore[attr-defined]
    if message.worker:
        error.add_note(f"raised on {message.worker}" + (f" in {message.method}" if message.method else ""))
    return error


def _text(exception: BaseException) -> str:
    try:
        return _sendable(str(exception))
    except Exception as error:  # a user's __str__ may itself be broken; its exception is what there is to say
        return f"(its text cannot be made: {type(error).__qualname__})"


def _traceback(exception: BaseException) -> str:
    try:
        return _sendable("".join(traceback.format_exception(exception)), keep_end=True)
    except Exception as error:  # for the same reason
        return f"(its traceback cannot be made: {type(error).__qualname__})"


def _sendable(text: str, keep_end: bool = False) -> str:
    text = text.encode(errors="replace").decode()
    if len(text) <= MAX_TEXT:
        return text
    return "[...]" + text[-MAX_TEXT:] if keep_end else text[:MAX_TEXT] + "[...]"
