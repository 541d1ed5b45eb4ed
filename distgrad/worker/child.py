"""A process that was started by another one: what the two say to each other, from the child's side.

    standard input     the child's orders, one line of JSON; later perhaps others, and at last a line "stop". Its end
                       without that: the parent is gone.
    standard output    events, a line of JSON each: {"event": "ready", ...}, {"event": "failed", ...}
    standard error     the log, for people; what programs print goes there too

Orders hold the cluster's token, which arguments and environment variables would show to others on the machine.

A child never outlives its parent, whatever way that one ends: see `Parent.attend` and `_die_with_parent`. What it has
forked, as a program that loads data may, ends with it: a child leads a process group of its own.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from distgrad.errors import DistgradError
from distgrad.transport.settings import TLS, Lossy, TransportSettings
from distgrad.wire import error_from_pb, error_to_pb, pb

_log = logging.getLogger(__name__)

STOP = b"stop\n"

# Seconds that a child whose parent is gone has to end in order; below those of `_die_with_parent`.
_TO_END_IN_ORDER = 0.8

# From Linux's prctl.h.
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What every child must know.

    Attributes:
        name: of the process in the cluster.
        listen: address for links from others.
        directory: where sockets are; it belongs to the parent and is removed with it.
        settings: of links.
    """

    name: str
    listen: str
    directory: str
    settings: TransportSettings

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Orders as `dataclasses.asdict` and JSON have made them."""
        settings = {**plain["settings"], "client_tokens": tuple(plain["settings"]["client_tokens"])}
        settings["lossy"] = Lossy(**settings["lossy"])
        if settings["tls"] is not None:
            files = {name: path and Path(path) for name, path in settings["tls"].items() if name != "server_name"}
            settings["tls"] = TLS(**files, server_name=settings["tls"]["server_name"])
        return cls(**{**plain, "settings": TransportSettings(**settings)})


@dataclass(frozen=True, kw_only=True)
class WorkerOrders(Orders):
    """What a worker must know to begin.

    Attributes:
        coordinator: address.
        programs: the folder of programs.
        max_depth: how deep calls may nest.
        patience: seconds to wait for the next coordinator when one is lost; 0: end with it.
    """

    coordinator: str
    programs: str
    max_depth: int = 1000
    patience: float = 0.0


class Parent:
    """The process that started this one. Made first thing in a child; ends the process when no orders come.

    Attributes:
        orders: what the parent wants, as plain data.
    """

    def __init__(self) -> None:
        _die_with_parent()
        atexit.register(_end_forked, os.getpid())
        faulthandler.enable()
        # Descriptors of our own, so that no program can read orders, or print among the events.
        self._orders = os.fdopen(os.dup(0), "rb", buffering=0)
        self._events = os.fdopen(os.dup(1), "w", buffering=1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        line = self._orders.readline()
        if line in (b"", STOP):
            raise SystemExit(0)
        self.orders: dict[str, Any] = json.loads(line)
        self._failed = False
        self._telling = threading.Lock()

    def tell(self, event: str, **more: Any) -> None:
        """Reports something. From any thread."""
        with self._telling, suppress(BrokenPipeError):  # the parent has died, and `attend` ends this process
            self._events.write(json.dumps({"event": event, **more}) + "\n")

    @contextmanager
    def reporting(self, doing: str) -> Iterator[None]:
        """Reports an exception that leaves the block: this process cannot go on. Of nested blocks the inner one does,
        before whatever is between them takes time to close.

        Arguments:
            doing: what the block is about; named when the error is not one of distgrad's own.
        """
        try:
            yield
        except Exception as error:
            if not self._failed:
                from google.protobuf.json_format import MessageToDict

                self.tell("failed", error=MessageToDict(error_to_pb(error, self.orders["name"], doing)))
            self._failed = True
            raise

    def attend(self, stop: Callable[[str], None], hear: Callable[[dict[str, Any]], None] | None = None) -> None:
        """From now on calls `stop` with the reason, in a thread, when the parent says so or is gone.

        Arguments:
            hear: called in that thread with whatever else the parent says (`Child.say`).
        """

        def listen() -> None:
            line = self._orders.readline()
            while hear is not None and line not in (b"", STOP):
                hear(json.loads(line))
                line = self._orders.readline()
            if line == STOP:
                stop("told to stop")
            else:
                # Nobody else is left to do it; all children try at the same time.
                shutil.rmtree(self.orders["directory"], ignore_errors=True)
                # No daemon: the interpreter waits for it.
                threading.Thread(target=_end_after_main_thread, name="distgrad-end", daemon=False).start()
                stop("the process that started this one is gone")

        threading.Thread(target=listen, name="distgrad-parent", daemon=True).start()

    def beat(self, every: float) -> None:
        """From now on reports "alive" every so many seconds: a parent that hears nothing knows that this process has
        been stopped, or that foreign code holds the interpreter."""

        def tell_on() -> None:
            while True:
                self.tell("alive")
                time.sleep(every)

        threading.Thread(target=tell_on, name="distgrad-beat", daemon=True).start()


def end_at_once(reason: str = "") -> None:
    """Ends this child and what it has forked: what `Parent.attend` may call where an end needs no ceremony."""
    os.killpg(os.getpid(), signal.SIGKILL)


def _end_forked(child: int) -> None:
    """At the exit of a child: ends what it has forked. The parent does so as well, but may be gone."""
    if os.getpid() != child or not sys.platform.startswith("linux"):  # or one that was forked exits
        return
    for name in os.listdir("/proc"):
        with suppress(ValueError, ProcessLookupError, PermissionError):
            number = int(name)
            if number != child and os.getpgid(number) == child:
                os.kill(number, signal.SIGKILL)


def _end_after_main_thread() -> None:
    threading.main_thread().join(_TO_END_IN_ORDER)
    end_at_once()


def events(output: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """What a child says, for its parent. What is no event is passed over: a line that the end of the process has torn,
    or what was printed there before there was a `Parent`."""
    for line in output:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict) and "event" in event:
            yield event
        else:
            _log.warning("a process that was started by this one said what is no event: %r", line)


def failure(event: Mapping[str, Any]) -> DistgradError:
    """The error of a child's event "failed", for its parent."""
    from google.protobuf.json_format import ParseDict

    return error_from_pb(ParseDict(event["error"], pb.Error()))


def _die_with_parent() -> None:
    """A second way to learn of the parent's death, for when the pipe's other end outlives it, in a process it forked,
    or when foreign code holds the interpreter so that no thread here can listen.

    The kernel then sends SIGQUIT, whose number is 3, and its handler is the C library's `alarm`, which takes that
    number for seconds: three seconds later SIGALRM ends the process, whatever it does. Until then it may end in order,
    with what it has forked.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal.restype = ctypes.c_void_p
    libc.signal(signal.SIGQUIT, ctypes.cast(libc.alarm, ctypes.c_void_p))
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
