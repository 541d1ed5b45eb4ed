"""What is tried again, when, and until when."""

from __future__ import annotations

import math
import numbers
import random
import time
from dataclasses import dataclass
from typing import Any

from distgrad.errors import ConfigError, DistgradError, LinkError, ResourceExhausted

# Years; not all clocks and alarms can count more seconds than that.
FOR_EVER = 1e8


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how soon a request that failed in passing is sent again.

    Functions are evaluated, nothing is changed by that; so what may not have arrived, or was given up by a server that
    ends, is safe to send again, and so is what a server with a full queue has refused.

    Attributes:
        attempts: a request that failed so often, the first time included, is given up,
        patience: unless it failed first less than so many seconds ago: then the server may be starting.
        first, longest: the pause before the second attempt, and the longest one, in seconds. Pauses double, and are
            drawn from their upper half so that clients which failed together do not come back together.
    """

    attempts: int = 6
    patience: float = 10.0
    first: float = 0.05
    longest: float = 2.0


def in_seconds(timeout: Any, what: str = "timeout") -> float | None:
    """A timeout as seconds; None for none, and for one of years. Raises ConfigError for what is no number."""
    if timeout is None:
        return None
    seconds = float(timeout) if isinstance(timeout, numbers.Real) else math.nan
    if math.isnan(seconds):
        raise ConfigError(f"{what}={timeout!r}, expected a number of seconds, or None for no limit")
    return None if seconds > FOR_EVER else seconds


class Attempts:
    """The attempts of one request, the first of which begins now.

    Attributes:
        failed: how many have.
    """

    def __init__(self, retries: Retries, seconds: float | None) -> None:
        """
        Arguments:
            seconds: until its answer must be there; None: as long as it takes.

        Raises:
            ConfigError: `seconds` is no number.
        """
        seconds = in_seconds(seconds)
        self.failed = 0
        self._retries = retries
        self._until = None if seconds is None else time.monotonic() + seconds
        self._failing_since = 0.0

    @property
    def left(self) -> float | None:
        """Seconds, at least a few milliseconds; None without a deadline."""
        return None if self._until is None else max(self._until - time.monotonic(), 1e-3)

    def pause(self, error: DistgradError) -> float | None:
        """One has failed: seconds to wait before the next; None when there is to be none."""
        now = time.monotonic()
        if not self.failed:
            self._failing_since = now
        self.failed += 1
        asked_for = error.retry_after if isinstance(error, ResourceExhausted) else 0.0
        passing = isinstance(error, LinkError) or asked_for > 0
        if not passing or self._exhausted(now):
            return None
        retries, left = self._retries, self.left
        pauses = min(retries.first * 2.0 ** min(self.failed - 1, 30), retries.longest)
        pause = max(asked_for, pauses * random.uniform(0.5, 1))
        return None if left is not None and pause >= left else pause

    def _exhausted(self, now: float) -> bool:
        retries = self._retries
        return self.failed >= retries.attempts and now - self._failing_since >= retries.patience
