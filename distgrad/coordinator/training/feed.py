"""The batches of a run in the order of its steps, also when it goes back to an earlier one."""

from __future__ import annotations

from collections.abc import Sequence

from .batches import Batches, Microbatch


class Feed:
    """Draws the batch of each step once, and again after a return.

    Arguments:
        batches: the data, which stands before `step`.
    """

    def __init__(self, batches: Batches, step: int) -> None:
        self._batches = batches
        self._next = step
        self._drawn: tuple[int, Sequence[Microbatch]] | None = None
        # Step -> where the data stands before it, as far as it has been told.
        self._marks: dict[int, str] = {}
        if batches.resumable:
            self._marks[step] = batches.state()

    def take(self, step: int) -> Sequence[Microbatch]:
        """The batch of a step (from 0), in pieces. Taken again, it is the same."""
        self.go_to(step)
        if self._drawn is None or self._drawn[0] != step:
            self._drawn = step, self._batches.microbatches(step)
            self._next = step + 1
        return self._drawn[1]

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
