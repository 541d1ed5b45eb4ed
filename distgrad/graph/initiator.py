"""The backward passes of one context, at the process that owns it: where they start, and in what order they count."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from distgrad.autograd.tape import Path
from distgrad.autograd.tensor import Tensor
from distgrad.errors import Cancelled, ContextError, DistgradError, GradientError
from distgrad.wire import pb, ref_to_pb

from .backward import LocalPass
from .refs import Ref
from .share import Share
from .waiting import Promise

if TYPE_CHECKING:
    from .process import Process


class Initiator:
    """Numbers the passes of a context, starts each at the owners of its roots, and has their gradients merged in the
    order of the program, whichever ends first."""

    def __init__(self, process: Process, share: Share) -> None:
        self._process = process
        self._share = share
        self._lock = threading.Lock()
        self._numbers = 0
        # Passes that are not merged yet, by the frame they were started in, in program order.
        self._unmerged: dict[Path, deque[Run]] = {}
        self._merging: list[Promise[Any]] = []

    def run(self, path: Path, roots: Any, gradient: Any, *, retain: bool, record: bool) -> Run:
        """A pass that has its place in the order of passes, and is yet to begin.

        Arguments:
            path: of the pass, as if it were a call.
            roots: a Ref or tensor, or a list or tuple of them.
            gradient: a seed, or as many.

        Raises:
            GradientError, ContextError: a root is not one.
        """
        several = isinstance(roots, list | tuple)
        chosen: list[Ref | Tensor] = list(roots) if several else [roots]
        seeds: list[Any] = list(gradient) if several and gradient is not None else [gradient] * len(chosen)
        if len(seeds) != len(chosen):
            raise GradientError(f"{len(chosen)} roots came with {len(seeds)} gradients")
        for k, root in enumerate(chosen):
            if not isinstance(root, Ref | Tensor):
                raise GradientError(f"root {k} must be a Ref or a tensor, not {type(root).__name__}")
            if isinstance(root, Ref) and root.share is not self._share:
                raise ContextError(f"root {k}, {root!r}, belongs to context {root.share.id}, not to {self._share.id}")
        self._share.check_open()
        header = pb.Pass(
            context=self._share.identity,
            initiator=self._process.name,
            create_graph=record,
            retain_graph=retain or record,
            path=path,
        )
        with self._lock:
            header.number = self._numbers
            self._numbers += 1
            run = Run(self._process, self._share, header, chosen, seeds, self._ended)
            self._unmerged.setdefault(path[:-1], deque()).append(run)
        return run

    def _ended(self, run: Run) -> None:
        """A pass has ended, well or not: those of its frame that have a turn now are merged."""
        with self._lock:
            line = self._unmerged[run.path[:-1]]
            while line and line[0].ended:
                first = line.popleft()
                finish = pb.Finish(context=self._share.id, number=first.number)
                self._merging += [self._process.request(peer, finish) for peer in first.met]

    def merging(self) -> list[Promise[Any]]:
        """What to wait for until the gradients of all passes that have ended are merged on every process."""
        with self._lock:
            merging, self._merging = self._merging, []
        return merging


class Run:
    """One pass, as its initiator sees it; in a `with` block wait for the calls of `awaited`, `begin`, and wait for what
    that returns.

    Attributes:
        path, number: of the pass.
        awaited: Refs among the roots; their calls must have ended before the pass begins, so that all that leads to
            them has.
        ended: whether the block has been left.
        met: the processes that took part; none, when the pass failed.
    """

    def __init__(
        self,
        process: Process,
        share: Share,
        header: pb.Pass,
        roots: Sequence[Ref | Tensor],
        seeds: Sequence[Any],
        then: Callable[[Run], None],
    ) -> None:
        self._process = process
        self._share = share
        self._header = header
        self._roots = roots
        self._seeds = seeds
        self._then = then
        self._local: LocalPass | None = None
        self.path: Path = tuple(header.path)
        self.number: int = header.number
        self.awaited = [root for root in roots if isinstance(root, Ref)]
        self.ended = False
        self.met: tuple[str, ...] = ()

    def begin(self) -> Promise[tuple[str, ...]]:
        """Engages the owners of the roots; the promise is kept when the pass has ended everywhere."""
        me = self._process.name
        tables: dict[str, pb.ProcessRoots] = {}
        seeds: dict[str, dict[int, Any]] = {me: {}}
        own: dict[int, Tensor] = {}
        for position, (root, seed) in enumerate(zip(self._roots, self._seeds, strict=True)):
            plain = seed.data if isinstance(seed, Tensor) else seed
            if isinstance(root, Tensor):
                own[position] = root
                seeds[me][position] = seed
                continue
            origin = root.origin()
            table = tables.setdefault(origin.owner, pb.ProcessRoots(process=origin.owner))
            table.roots.add(ref=ref_to_pb(origin), position=position)
            seeds.setdefault(origin.owner, {})[position] = plain
        self._header.roots.extend(tables.values())
        local = LocalPass(self._process, self._share, self._header, own)
        with self._share.lock:
            self._share.check_open()
            self._share.passes[self.number] = self._local = local
        mine = seeds.pop(me)
        local.initiate(seeds, mine)
        return local.ended

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Whoever waited goes on: the pass has ended, or is given up everywhere because of an error."""
        local = self._local
        if local is not None and error is not None:
            local.abort(error if isinstance(error, DistgradError) else Cancelled(f"the pass was given up: {error!r}"))
        elif local is not None:
            self.met = local.ended.result(timeout=0)
        self.ended = True
        self._then(self)


class Deadline:
    """Seconds that are left of a timeout; None for ever."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout

    @property
    def left(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - time.monotonic())
