"""Every exception distgrad raises. All derive from `DistgradError`."""

from __future__ import annotations


class DistgradError(Exception):
    """Base of all exceptions of this library."""


# ---- the local engine ------------------------------------------------------------------------------------------------


class GradientError(DistgradError):
    """A backward or forward derivative was asked for that does not exist or cannot be computed."""


class InPlaceError(GradientError):
    """An array that a derivative needs was written to after it was recorded."""


class CannotTravel(GradientError):
    """A value that `dg.vmap`, or `dg.grad` inside a `dg.jvp`, looks into was to leave for another
    process; or tangents would have been lost in a backward pass over several."""


class FreedGraphError(GradientError):
    """A backward pass met nodes that an earlier pass has freed; use `retain_graph=True` on the earlier one."""


class CheckError(DistgradError, AssertionError):
    """A derivative check found a derivative that is wrong."""


# ---- configuration ---------------------------------------------------------------------------------------------------


class ConfigError(DistgradError, ValueError):
    """A job file, a setting or an argument is not what was expected."""


class ProgramError(ConfigError):
    """A worker program or one of its names does not exist or is not allowed."""


# ---- what outlives a process -----------------------------------------------------------------------------------------


class CheckpointError(DistgradError):
    """A checkpoint could not be written, or is not what was written."""


class JournalError(DistgradError):
    """The journal of decisions is in use, could not be written, or is not what was written."""


# ---- processes and links ---------------------------------------------------------------------------------------------


class LinkError(DistgradError, ConnectionError):
    """A link could not be opened, or closed while it was needed."""


class WireError(DistgradError, ValueError):
    """Bytes or messages from a peer do not follow the protocol, or a value cannot travel."""


class WorkerLost(LinkError):
    """A process is gone: killed, stopped, cut off, or silent for longer than its lease."""


class PermissionDenied(DistgradError, PermissionError):
    """The peer does not accept who we are or what we ask."""


class ResourceExhausted(DistgradError):
    """A limit was reached: message size, depth, contexts, references or calls.

    Attributes:
        retry_after: seconds after which to try again, when the limit is a passing one; else 0.
    """

    def __init__(self, message: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Timeout(DistgradError, TimeoutError):
    """A wait outlasted its `timeout=`."""


class Cancelled(DistgradError):
    """The call was cancelled before it could end."""


# ---- the gradient service --------------------------------------------------------------------------------------------


class NotServed(DistgradError, LookupError):
    """A server has no function of that name."""


class RequestError(DistgradError, ValueError):
    """What was sent does not fit the served function.

    Attributes:
        violations: (where, what was expected, what was found) for everything that does not fit; where is written as
            `arguments["x"]`, `cotangents[1]`, `with_respect_to[0]`.
    """

    def __init__(self, message: str = "", violations: tuple[tuple[str, str, str], ...] = ()) -> None:
        super().__init__(message)
        self.violations = violations


class SessionLost(DistgradError):
    """The server keeps a linearisation no longer: it was closed, its lease has ended, or its process is gone; linearize
    again."""


# ---- the global graph ------------------------------------------------------------------------------------------------


class ContextError(DistgradError):
    """A context was used in a way it does not allow."""


class ContextClosed(ContextError):
    """The context a tensor, reference or call belongs to has been released."""


class RemoteError(DistgradError):
    """An exception on another process, through any number of hops.

    Attributes:
        worker: name of the process where it was raised.
        method: "SHARD.METHOD" or "FILE.py:FUNCTION" that raised.
        original: class name of the original exception.
        original_message: its text.
        traceback: its traceback there, as text.
        arguments: what the method was called with, in words: "float32[32, 65], 3". Empty when unknown.
    """

    def __init__(
        self,
        worker: str,
        method: str,
        original: str,
        original_message: str,
        traceback: str = "",
        arguments: str = "",
    ) -> None:
        called = f" (called with {arguments})" if arguments else ""
        said = f": {original_message}" if original_message else ""  # `assert x` says nothing
        super().__init__(f"{method} on {worker} raised {original}{said}{called}")
        self.worker = worker
        self.method = method
        self.original = original
        self.original_message = original_message
        self.traceback = traceback
        self.arguments = arguments
