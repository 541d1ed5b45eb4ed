"""What crosses to other processes with fewer bytes, where the settings ask for it (`TransportSettings.lossy`).

Gradients are encoded with *error feedback*: what the encoding of one gradient leaves out is added to the next that
takes the same way, so that over many steps nothing is lost, only late (Seide et al., "1-bit stochastic gradient
descent", 2014; Karimireddy et al., "Error feedback fixes SignSGD", arXiv:1901.09847).

The same way means the same edge, of the contexts of the same owner and microbatch: of these there is one at a time, so
the order of sums is the program's. What is left out lives in memory alone: a process that is started anew begins
without it, and then a lossy run does not repeat the bits of an undisturbed one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np

from distgrad.autograd.rows import Rows
from distgrad.transport.settings import Lossy
from distgrad.wire.encodings import Encoded, decode, encode

# Bytes of what was left out that are kept, the least recently used first to go.
MAX_KEPT = 2**28


class _Way(NamedTuple):
    peer: str
    owner: str
    rest: Hashable


class Encoder:
    """Encodes what one process sends to others. Safe to use from any thread.

    Arguments:
        me: name of the process, which sends itself everything as it is.
    """

    def __init__(self, settings: Lossy, me: str, max_kept: int = MAX_KEPT) -> None:
        self._settings = settings
        self._me = me
        self._max_kept = max_kept
        self._lock = threading.Lock()
        self._left_out: OrderedDict[_Way, Any] = OrderedDict()
        self._kept = 0

    @classmethod
    def of(cls, settings: Lossy, me: str) -> Encoder | None:
        """None when nothing is to be encoded."""
        return cls(settings, me) if settings.values or settings.gradients else None

    def value(self, array: Any, peer: str) -> Any:
        """An array that a call takes to `peer`, encoded or as it is."""
        encoding = self._settings.values
        return encode(array, encoding) if encoding and self._concerned(peer) else array

    def gradient(self, gradient: Any, peer: str, owner: str, way: Hashable) -> Any:
        """A gradient on its way to `peer`, encoded or as it is.

        Arguments:
            gradient: an array, or Rows: their values are encoded, without feedback, as their places differ every time.
            owner: of the context.
            way: equal for gradients that follow one another; different for those under way side by side.
        """
        encoding = self._settings.gradients
        if not encoding or not self._concerned(peer):
            return gradient
        if isinstance(gradient, Rows):
            return Rows(gradient.indices, encode(np.asarray(gradient.values), encoding), gradient.length)
        key = _Way(peer, owner, way)
        owed = self._take(key, gradient)
        wanted = gradient if owed is None else gradient + owed
        encoded = encode(wanted, encoding)
        if isinstance(encoded, Encoded):
            self._keep(key, wanted, encoded)
        return encoded

    def forget(self, name: str) -> None:
        """A process is gone: nothing is owed to one that takes its name, and its contexts have no successors."""
        with self._lock:
            for key in [key for key in self._left_out if name in (key.peer, key.owner)]:
                self._kept -= self._left_out.pop(key).nbytes

    def _concerned(self, peer: str) -> bool:
        return peer != self._me and self._settings.concerns(peer)

    def _take(self, key: _Way, gradient: Any) -> Any:
        with self._lock:
            owed = self._left_out.pop(key, None)
            if owed is None:
                return None
            self._kept -= owed.nbytes
        return owed if owed.shape == gradient.shape and owed.dtype == gradient.dtype else None

    def _keep(self, key: _Way, wanted: Any, encoded: Encoded) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            owed = wanted - decode(encoded)
        if not np.isfinite(owed).all():  # the step will be refused, and the next must not inherit it
            return
        with self._lock:
            self._left_out[key] = owed
            self._kept += owed.nbytes
            while self._kept > self._max_kept:
                self._kept -= self._left_out.popitem(last=False)[1].nbytes
