"""Forks of the tests' own process."""

from __future__ import annotations

import os
import select
import warnings
from collections.abc import Callable

from .processes import DEADLINE


class Fork:
    """A fork of this process that does something when it is told to, and says what came of it."""

    def __init__(self, work: Callable[[], object]) -> None:
        begin, self._begin = os.pipe()
        self._said, say = os.pipe()
        with warnings.catch_warnings():
            for kind in (DeprecationWarning, RuntimeWarning):  # the latter is JAX's
                warnings.simplefilter("ignore", kind)  # it uses no lock that other threads might hold
            self._process = os.fork()
        if not self._process:
            os.close(self._begin)  # so that the end of the parent is seen
            try:
                os.read(begin, 1)
                os.write(say, repr(work()).encode())
            except BaseException as error:
                os.write(say, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(0)
        os.close(begin)
        os.close(say)

    def result(self) -> str:
        os.close(self._begin)
        heard = select.select([self._said], [], [], DEADLINE)[0]
        said = os.read(self._said, 2**16).decode() if heard else "nothing"
        os.close(self._said)
        os.waitpid(self._process, 0)
        return said
