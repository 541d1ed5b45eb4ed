"""Processes that this one starts and that never outlive it. What is said over their pipes: `child`."""

from __future__ import annotations

import json
import os
import signal
import site
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .child import STOP, events

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Event = dict[str, Any]
Heard = Callable[["Child", Event], None]

# Seconds after which a child that was asked to stop is told to, and then made to. Together well below two.
TO_STOP_IN_ORDER = 1.0
TO_STOP_AT_ALL = 0.3
# Seconds for the system to end one that was killed, which takes it milliseconds if it has anything to compute with.
TO_BE_GONE = 10.0

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_TAIL_BYTES = 8192


class Child:
    """A process started by this one: `python -m MODULE NAME`, waiting for its orders.

    A thread lives as long as the process: it starts it and waits for its end, while another one passes on its events.
    The process must be started by a thread that lasts, because the kernel takes the end of that thread for the end of
    the parent. What it has forked, as a program that loads data may, ends with it.

    Attributes:
        name: of the process in the cluster.
        log: the file its standard error is added to; None: it is this process's.
        begun: whether it was given its orders.
        ended: set when it has ended and `ending` says how: "was killed by signal 9 (SIGKILL)".
    """

    def __init__(self, name: str, module: str, log: Path | None, environment: dict[str, str], heard: Heard) -> None:
        self.name = name
        self.log = log
        self.begun = False
        self.ended = threading.Event()
        self.ending = ""
        self._reason = ""  # why it was ended by this process, if it was
        self._command = [sys.executable, "-u", "-P", "-m", module, name]  # -P: nothing is imported from where we stand
        self._environment = environment
        self._heard = heard
        self._log_start = 0
        self._lock = threading.Lock()  # guards what is written to the process and signals sent to it
        self._process: subprocess.Popen[bytes] | None = None
        self._pid: Future[int] = Future()
        self._thread = threading.Thread(target=self._live, name=f"distgrad-child-{name}", daemon=True)

    # ---- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the process.

        Raises:
            OSError: there are too many, or not enough memory.
        """
        self._thread.start()
        self._pid.result()

    def begin(self, orders: DataclassInstance) -> None:
        """Gives the process its orders. One that has died meanwhile says so by an event."""
        self.begun = True
        self.say(asdict(orders))

    def say(self, plain: dict[str, Any]) -> None:
        """Says something more to a process that listens; see `Parent.attend`."""
        self._write(json.dumps(plain, default=str).encode() + b"\n")

    def ask_to_stop(self) -> None:
        """Asks the process to end in order. Does not wait."""
        self._write(STOP)
        self._close_input()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process, if it still runs."""
        with self._lock:
            if self._process is not None and self._process.returncode is None:
                os.kill(self._process.pid, number)

    def end(self, reason: str) -> None:
        """Ends the process, which may be stopped or stuck, if it still runs.

        Arguments:
            reason: what it was: "silent for 3 s".
        """
        if not self.ended.is_set():
            self._reason = self._reason or reason
            self.signal(signal.SIGKILL)

    def wait(self, timeout: float) -> bool:
        """Waits for the process to have ended and been heard of; False when it has not in time."""
        if self._thread.ident is None:
            return True
        self._thread.join(max(timeout, 0))
        return not self._thread.is_alive()

    # ---- looks -------------------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return self._pid.result()

    def tail(self, lines: int = 12) -> str:
        """The end of its log, if that is there still; nothing of what was there before."""
        if self.log is None or not self.log.exists():
            return ""
        with open(self.log, "rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])

    def __repr__(self) -> str:
        number = f", process {self._process.pid}" if self._process is not None else ""
        return f"<Child {self.name}{number} {self.ending or 'running'}>"

    # ---- within ------------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        try:
            process = self._spawn()
        except BaseException as error:
            self._pid.set_exception(error)
            return
        with self._lock:
            self._process = process
        self._pid.set_result(process.pid)
        listener = threading.Thread(
            target=self._listen, args=(process,), name=f"distgrad-hear-{self.name}", daemon=True
        )
        listener.start()
        self._reap(process)
        listener.join()
        self._close_input()
        self.ending = f"was {self._reason}, and was ended" if self._reason else _ending(process.returncode)
        self.ended.set()
        self._heard(self, {"event": "exited", "code": process.returncode})

    def _spawn(self) -> subprocess.Popen[bytes]:
        with nullcontext() if self.log is None else open(self.log, "ab") as log:
            self._log_start = 0 if log is None else log.tell()
            return subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,  # Ctrl-C in a terminal is for the parent alone
            )

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """In a thread: passes on what the process says."""
        assert process.stdout is not None
        with process.stdout:
            for event in events(process.stdout):
                self._heard(self, event)

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        """Waits for the process, and ends what it has forked, which may go on and holds its pipes open. Its number is
        given back with the lock held, so that no signal meant for it can hit another process that gets the same."""
        with suppress(ChildProcessError):  # the program around us waits for all its children itself
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            with suppress(ProcessLookupError, PermissionError):  # a group of none, or that became another user's
                os.killpg(process.pid, signal.SIGKILL)
        with self._lock:
            process.wait()

    def _write(self, line: bytes) -> None:
        with self._lock, suppress(BrokenPipeError):  # it has died, and its thread is about to say so
            if self._stdin is not None and not self._stdin.closed:
                self._stdin.write(line)
                self._stdin.flush()

    def _close_input(self) -> None:
        with self._lock, suppress(BrokenPipeError):  # what was written last did not arrive
            if self._stdin is not None:
                self._stdin.close()

    @property
    def _stdin(self) -> IO[bytes] | None:
        return None if self._process is None else self._process.stdin


class Children:
    """The processes started here. `with Children(...) as children:` leaves none behind.

    Arguments:
        logs: directory of their logs, NAME.log each; None: what they log goes where this process's standard error does.
        blas_threads: threads for matrix products, in each of them.
        heard: called with every event of a child, in that child's thread; the last is "exited".
    """

    def __init__(self, logs: Path | None, blas_threads: int, heard: Heard) -> None:
        self._logs = logs
        self._environment = _environment(blas_threads)
        self._heard = heard
        self._children: dict[str, Child] = {}

    def start(self, name: str, module: str) -> Child:
        """Starts `python -m MODULE` and returns without waiting for it to be ready.

        Raises:
            OSError: there are too many processes, or not enough memory.
        """
        log = self._logs / f"{name}.log" if self._logs is not None else None
        child = Child(name, module, log, self._environment, self._heard)
        self._children[name] = child  # before it runs, so that an interrupt in between leaves nothing behind
        try:
            child.start()
        except OSError:
            del self._children[name]
            raise
        return child

    def get(self, name: str) -> Child | None:
        return self._children.get(name)

    def forget(self, name: str) -> None:
        """A child that has ended is of no interest any more, nor is its log."""
        child = self._children.pop(name)
        if child.log is not None:
            child.log.unlink(missing_ok=True)

    def stop(self) -> None:
        """Ends all children, within two seconds: by asking, then by SIGTERM, then by SIGKILL."""
        for child in self:
            child.ask_to_stop()
        self._wait(TO_STOP_IN_ORDER)
        for number, seconds in ((signal.SIGTERM, TO_STOP_AT_ALL), (signal.SIGKILL, TO_BE_GONE)):
            for child in self:
                child.signal(number)
            self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for child in self:
            child.wait(deadline - time.monotonic())

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._children.values()))

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def how_it_ended(child: Child) -> str:
    """For an error that names the process: "process 4711 was killed by signal 9 (SIGKILL)"."""
    return f"process {child.pid} {child.ending}"


def _environment(blas_threads: int) -> dict[str, str]:
    """The children's environment. What it says of threads is read when NumPy is imported."""
    environment = os.environ | dict.fromkeys(THREADS, str(blas_threads))
    home = str(Path(__file__).parents[2])
    if home not in site.getsitepackages():  # distgrad is not installed, or in place: let children find the same one
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    return environment


def _ending(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    return f"was killed by signal {-code} ({signal.Signals(-code).name})"
