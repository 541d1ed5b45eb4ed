"""A child process that does what the tests of `children` want to see: `python -m tests.worker.puppet HOW`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

from distgrad.worker.child import Parent


def obedient(parent: Parent) -> None:
    """Ends when told to, or when its parent is gone."""
    over = threading.Event()
    parent.attend(lambda reason: over.set())
    parent.tell("ready", token=parent.orders["settings"]["token"], blas_threads=os.environ["OPENBLAS_NUM_THREADS"])
    over.wait()


def deaf(parent: Parent) -> None:
    """Hears nothing of its parent."""
    parent.tell("ready")
    threading.Event().wait()


def stuck(parent: Parent) -> None:
    """Holds the interpreter, so that no thread of it can do anything."""
    parent.tell("ready")
    ctypes.PyDLL(None).sleep(1000)  # unlike CDLL, it keeps the GIL


def talkative(parent: Parent) -> None:
    """Prints, reads and complains as programs may."""
    print("printed by the program")
    print("complained by the program", file=sys.stderr)
    parent.tell("ready", read=sys.stdin.read())


def forking(parent: Parent) -> None:
    """Has forked, as a program that loads data may."""
    over = threading.Event()
    if (forked := os.fork()) != 0:
        parent.attend(lambda reason: over.set())
        parent.tell("ready", forked=forked)
    over.wait()


def failing(parent: Parent) -> None:
    """Has forked, and dies of a bug."""
    if (forked := os.fork()) == 0:
        signal.pause()
    parent.tell("ready", forked=forked)
    raise RuntimeError("a bug")


def torn(parent: Parent) -> None:
    """Is killed in the middle of what it says."""
    os.write(parent._events.fileno(), b'{"event": "rea')
    os.kill(os.getpid(), signal.SIGKILL)


def crashing(parent: Parent) -> None:
    """Dies of a bug."""
    raise RuntimeError("a bug")


if __name__ == "__main__":
    kinds = (obedient, deaf, stuck, talkative, forking, failing, torn, crashing)
    {kind.__name__: kind for kind in kinds}[sys.argv[1]](Parent())
