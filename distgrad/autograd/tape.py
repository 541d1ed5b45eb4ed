"""What is recorded: nodes of the tape, the frame they are numbered in, and the mode that says whether to record.

A node stands for one recorded value. It points to the nodes of the operands it was computed from, never to the
tensors, so that a tensor nobody holds is freed at once. Nodes are numbered in program order within a *frame*; (path
of the frame, number) is the node's key, and every sum of gradients is taken in the order of keys, whatever the order
of arrival.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar

from distgrad.errors import FreedGraphError, InPlaceError

Path = tuple[int, ...]
Key = tuple[Any, ...]


class Frame:
    """Where program order is counted: the driver's program, or one call of a shard's method.

    `path` names the call: the caller's path plus the index of the call in the caller's program. `next_op()` numbers the
    operations recorded in the frame and `next_call()` the calls issued from it.
    """

    __slots__ = ("next_call", "next_op", "path")

    def __init__(self, path: Path = (), next_op: Callable[[], int] | None = None) -> None:
        self.path = path
        self.next_op: Callable[[], int] = next_op or itertools.count().__next__
        self.next_call: Callable[[], int] = itertools.count().__next__

    def __repr__(self) -> str:
        return f"Frame(path={self.path})"


# Transforms are numbered as they begin, so an inner one has a higher number than those around it, and a box that was
# kept after the end of its transform is never taken for one of another.
next_level: Callable[[], int] = itertools.count(1).__next__


class Recomputed:
    """A function that keeps nothing of what it computes, and is run again on the way back; see checkpoint.py.

    Attributes:
        calls_shards: whether it has called one. Then its calls alone are run again, where they are.
    """

    __slots__ = ("calls_shards",)

    def __init__(self) -> None:
        self.calls_shards = False


class Mode:
    """How operations are treated here and now: recorded or not, in which frame, inside how many transforms."""

    __slots__ = ("anomaly", "boxes", "deferring", "frame", "jvps", "level", "outer", "recomputed", "record")

    def __init__(
        self,
        record: bool,
        frame: Frame,
        level: int = 0,
        boxes: bool = False,
        anomaly: bool = False,
        recomputed: Recomputed | None = None,
        deferring: bool = False,
        jvps: tuple[int, ...] = (),
    ) -> None:
        self.record = record
        self.frame = frame
        # Number of the innermost transform we are inside of, 0 outside all; see `next_level`.
        self.level = level
        # Whether one of these transforms sees boxes: jvp or vmap.
        self.boxes = boxes
        # Whether each operation remembers the user's line that recorded it.
        self.anomaly = anomaly
        # The innermost checkpointed function we are inside of.
        self.recomputed = recomputed
        # Whether values that may never be needed are computed only when somebody looks at them; see deferred.py.
        self.deferring = deferring
        # Levels of the jvps we are inside of, the outermost first. Calls to other processes take them along.
        self.jvps = jvps
        # The mode around the innermost switch, if this is the mode within one; see modes.py.
        self.outer: Mode | None = None

    def but(self, **changes: Any) -> Mode:
        """The same mode with some fields changed."""
        changed = Mode(
            self.record, self.frame, self.level, self.boxes, self.anomaly, self.recomputed, self.deferring, self.jvps
        )
        for name, value in changes.items():
            setattr(changed, name, value)
        return changed


# Threads start with an empty context, so they all begin with this mode and, unless they enter another, share its frame.
mode: ContextVar[Mode] = ContextVar("distgrad_mode", default=Mode(True, Frame()))  # noqa: B039


class entered:  # noqa: N801  (reads as the function it stands for; every transform enters, so mind its cost)
    """Runs its block with some fields of the mode changed."""

    __slots__ = ("_changes", "_token")

    def __init__(self, **changes: Any) -> None:
        self._changes = changes

    def __enter__(self) -> Mode:
        changed = mode.get().but(**self._changes)
        self._token = mode.set(changed)
        return changed

    def __exit__(self, *_: object) -> None:
        mode.reset(self._token)


class Endings(ExitStack):
    """What ends with the outermost transform: the contexts of processes whose shards its function called.

    Attributes:
        held: by process, the context opened for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[Any, Any] = {}


endings: ContextVar[Endings | None] = ContextVar("distgrad_endings", default=None)


@contextmanager
def outermost() -> Iterator[None]:
    """Runs its block, a whole transform, and ends what must end with it unless another one is around it."""
    if endings.get() is not None:
        yield
        return
    with Endings() as ending, within(ending):
        yield


@contextmanager
def within(ending: Endings) -> Iterator[None]:
    """Runs its block as a part of what `ending` ends: of a transform that goes on beyond the block."""
    token = endings.set(ending)
    try:
        yield
    finally:
        endings.reset(token)


# What the innermost jvp of the program here does before it ends: each waits for a call that was made in it, and raises
# CannotTravel where tangents could not go on.
followed: ContextVar[list[Callable[[], None]] | None] = ContextVar("distgrad_followed", default=None)


class Node:
    """One recorded value.

    Attributes:
        inputs: for each operand of the operation its node, or None where no gradient goes.
        frame, index: program order; see `key`.
        shape, dtype: of the value, and so of its gradient.
        hooks: functions run once on the complete gradient, or None.
        trace: the user's line that recorded the node, under `detect_anomaly`.
    """

    __slots__ = ("__weakref__", "dtype", "frame", "hooks", "index", "inputs", "shape", "trace")

    # The transform whose tape this is; see lifted.py. Ordinary nodes live on level 0.
    level: ClassVar[int] = 0
    # Whether the graph goes on in another process from here; see `differentiate`.
    abroad: ClassVar[bool] = False
    # Whether its value is its input's, and its gradient goes on as it is, row-sparse ones included.
    same: ClassVar[bool] = False

    def __init__(self, inputs: tuple[Node | None, ...], frame: Frame, shape: tuple[int, ...], dtype: Any) -> None:
        self.inputs = inputs
        self.frame = frame
        self.index = frame.next_op()
        self.shape = shape
        self.dtype = dtype
        self.hooks: list[Callable[[Any], Any]] | None = None
        self.trace: str | None = None

    @property
    def key(self) -> Key:
        """Total order of program positions. The 0 separates recorded operations from edges, whose keys hold a 1
        there.
        """
        return (self.frame.path, 0, self.index)

    # Rules are given a node in the place of a value that was not kept, to ask for its shape.
    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    def shared(self, gradient: Any, record: bool) -> Any:
        """What the vjps of all inputs need alike, made ready once per pass."""
        return None

    def complete(self, gradient: Places, record: bool) -> tuple[Any, ...]:
        """The gradients of all results of an operation that has several."""
        raise TypeError(f"{self} has one result")

    def vjp(self, i: int, gradient: Any, shared: Any, record: bool) -> Any:
        """The gradient of input `i`, given this node's. Under `record` the computation is itself recorded."""
        raise FreedGraphError(f"{self} has no vjp: it is where a graph ends")

    def differentiate(self, *pass_arguments: Any, **options: Any) -> None:
        """Runs a whole pass, whose arguments are those of `run_pass`, also in other processes."""
        raise TypeError(f"{self} is all in this process")

    def free(self) -> None:
        """Lets go of what the vjps needed."""

    def __repr__(self) -> str:
        place = "/".join(map(str, (*self.frame.path, self.index)))
        value = "" if self.dtype is None else f" {self.dtype}{list(self.shape)}"
        return f"<{self.name} {place}{value}>"


class Leaf(Node):
    """A variable: where a graph ends and `.grad` accumulates.

    Attributes:
        renewed: reading of the clock of writes when it was last given a new array; 0: never.
    """

    __slots__ = ("grad", "renewed")

    def __init__(self, frame: Frame, shape: tuple[int, ...], dtype: Any) -> None:
        super().__init__((), frame, shape, dtype)
        self.grad: Any = None
        self.renewed = 0


class Output(Node):
    """One of several results of an operation. It passes its gradient on to its place among them."""

    __slots__ = ("position",)

    def __init__(self, operation: Node, position: int, shape: tuple[int, ...], dtype: Any) -> None:
        super().__init__((operation,), operation.frame, shape, dtype)
        self.position = position

    def vjp(self, i: int, gradient: Any, shared: Any, record: bool) -> Any:
        return Places({self.position: gradient})


class Places:
    """The gradient of an operation with several results, by position. Those not named have none."""

    __slots__ = ("by_position",)

    # What the node of such an operation has too.
    shape: ClassVar[tuple[int, ...]] = ()
    dtype: ClassVar[None] = None

    def __init__(self, by_position: dict[int, Any]) -> None:
        self.by_position = by_position

    def __add__(self, other: Places) -> Places:
        total = dict(self.by_position)
        for position, gradient in other.by_position.items():
            total[position] = total[position] + gradient if position in total else gradient
        return Places(total)


class Alias(Node):
    """A variable that is a copy of a recorded value: to differentiate by it is not to differentiate by all that the
    value is used for.

    Nested derivatives take it for their variables, so that an inner one never sees where its argument came from.
    """

    __slots__ = ()
    same = True

    def __init__(self, original: Node | None, frame: Frame, shape: tuple[int, ...], dtype: Any) -> None:
        super().__init__((original,), frame, shape, dtype)

    def vjp(self, i: int, gradient: Any, shared: Any, record: bool) -> Any:
        return gradient


# ---- in-place writes -------------------------------------------------------------------------------------------------
# Locking arrays would cost more than the operations themselves, so each write advances one clock instead. A node
# remembers the clock's reading when it saved its operands; only if the clock has moved since does anyone ask which
# buffers were written.


class WriteClock:
    """Counts in-place writes through tensors and remembers the last one of each buffer."""

    __slots__ = ("now", "written")

    def __init__(self) -> None:
        self.now = 0
        self.written: dict[int, int] = {}

    def write(self, array: Any) -> None:
        """Notes that the buffer under `array` was written to."""
        self.now += 1
        buffer = buffer_of(array)
        identity = id(buffer)
        if identity not in self.written:
            weakref.finalize(buffer, self.written.pop, identity, None).atexit = False
        self.written[identity] = self.now

    def renew(self, leaf: Leaf) -> None:
        """Notes that a variable has a new array; graphs keep the old one."""
        self.now += 1
        leaf.renewed = self.now

    def check(self, since: int, arrays: tuple[Any, ...], node: Node) -> None:
        """Raises InPlaceError when one of `arrays` was written to after the reading `since`."""
        for position, array in enumerate(arrays):
            if self.written.get(id(buffer_of(array)), 0) > since:
                raise InPlaceError(
                    f"operand {position} of {node} was written to in place after it was recorded, so the gradient "
                    "would be wrong; write to a copy, or use dg.ops.set_at / dg.ops.add_at, which return a new tensor"
                )


def buffer_of(array: Any) -> Any:
    """The array that owns the memory `array` is a view of; over memory that is no array's, the first one over it."""
    while hasattr(base := getattr(array, "base", None), "base"):
        array = base
    return array


clock = WriteClock()
