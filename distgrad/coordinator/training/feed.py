"""The batches of a run in the order of its steps, also when it goes back to an earlier one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

from .batches import Batches, Microbatch


class Feed:
    """Draws the batch of each step once, and again after a return. `close` ends its thread.

    Arguments:
        batches: the data, which stands before `step`.
    """

    def __init__(self, batches: Batches, step: int) -> None:
        self._batches = batches
        self._next = step
        self._drawn: tuple[int, Sequence[Microbatch]] | None = None
        # A batch that was drawn ahead of its step.
        self._ahead: tuple[int, Future[Sequence[Microbatch]]] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="data")
        # Step -> where the data stands before it, as far as it has been told.
        self._marks: dict[int, str] = {}
        if batches.resumable:
            self._marks[step] = batches.state()

    def take(self, step: int) -> Sequence[Microbatch]:
        """The batch of a step (from 0), in pieces. Taken again, it is the same."""
        self.go_to(step)
        if self._drawn is None or self._drawn[0] != step:
            self._drawn = step, self._draw(step)
            self._next = step + 1
        return self._drawn[1]

    def _draw(self, step: int) -> Sequence[Microbatch]:
        ahead, self._ahead = self._ahead, None
        return ahead[1].result() if ahead is not None and ahead[0] == step else self._batches.microbatches(step)

    @contextmanager
    def ahead(self, step: int) -> Iterator[None]:
        """Draws the batch of a step, to be taken later, while the block runs, if the data can be asked for any step at
        any time. It is drawn when the block ends, so data is never asked for two things at once. What it raises is
        raised when the batch is taken.
        """
        if not self._batches.any_step:
            yield
            return
        self._ahead = step, self._thread.submit(self._batches.microbatches, step)
        try:
            yield
        finally:
            wait([self._ahead[1]])

    def close(self) -> None:
        self._thread.shutdown()

    def mark(self, step: int) -> str:
        """Where the data stands before `step`, for a checkpoint. Asked for before the batch of that step is taken; and
        again, when the checkpoint has to be."""
        if step >= self._next:  # other trainers take the batches in between
            self.learn(step, self._batches.state())
        return self._marks[step]

    def learn(self, step: int, state: str) -> None:
        """Takes note of where the data stands before a step, so that a return need not begin further back. Of all such
        notes the first and the last are kept."""
        first = min(self._marks, default=step)
        self._marks = {at: told for at, told in self._marks.items() if at == first} | {step: state}

    def go_to(self, step: int) -> None:
        """The next batch to be taken is that of `step`, which was taken before or is yet to come.

        Raises:
            ConfigError: the data cannot go back.
        """
        if step in (self._next, self._drawn[0] if self._drawn is not None else None):
            return
        mark = max((at for at in self._marks if at <= step), default=None)
        if step < self._next or (mark is not None and mark > self._next):
            self._batches.restore("" if mark is None else self._marks[mark])
            self._next = step if mark is None else mark
        if self._batches.resumable and not self._batches.state():  # the step says it all
            self._next = step
        while self._next < step:
            self._batches.microbatches(self._next)
            self._next += 1
        self._drawn = None
