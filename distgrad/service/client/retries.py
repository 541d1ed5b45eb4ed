"""What is tried again, and when."""

from __future__ import annotations

import random
from dataclasses import dataclass

from distgrad.errors import DistgradError, LinkError, ResourceExhausted


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how soon a request that failed in passing is sent again.

    Functions are evaluated, nothing is changed by that; so what may not have arrived, or was given up by a server that
    ends, is safe to send again, and so is what a server with a full queue has refused.

    Attributes:
        attempts: at most, the first one included.
        first, longest: the pause before the second attempt, and the longest one, in seconds. Pauses double, and are
            drawn from their upper half so that clients which failed together do not come back together.
    """

    attempts: int = 6
    first: float = 0.05
    longest: float = 2.0

    def pause(self, error: DistgradError, attempt: int, left: float | None) -> float | None:
        """Seconds to wait before the next attempt; None when there is to be none.

        Arguments:
            attempt: which one has failed, from 1.
            left: seconds until the caller's deadline; None without one.
        """
        asked_for = getattr(error, "retry_after", 0.0) if isinstance(error, ResourceExhausted) else 0.0
        passing = isinstance(error, LinkError) or asked_for > 0
        if not passing or attempt >= self.attempts:
            return None
        backoff: float = min(self.first * 2 ** (attempt - 1), self.longest) * random.uniform(0.5, 1)
        pause = max(asked_for, backoff)
        return None if left is not None and pause >= left else pause
