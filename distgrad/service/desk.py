"""Where requests arrive, however they came: checked, queued, given to the pool's processes, and answered.

For the thread of the event loop; nothing here waits.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Protocol

from distgrad.errors import WireError
from distgrad.transport.local_messages import INLINE, LocalMessage
from distgrad.wire import pb
from distgrad.wire.exchanges import decode_exchange, split_id

from .failures import Code, Refused, fatal
from .functions import Description
from .gathering import Gathering
from .local import LocalListener
from .pool import Pool, Process
from .requests import Checked, Point, Request, batch_key, check_request, read_headers
from .sessions import Session, Sessions
from .settings import ServiceSettings
from .tasks import Client, FairQueue, OpenLine, Outcome, Payload, Reply, Task

SWEEP = 1.0
# What a client is told to wait, in seconds, when there is no room: at least, at most.
SHORTEST_WAIT, LONGEST_WAIT = 0.05, 5.0

logger = logging.getLogger("distgrad.service")


class Observer(Protocol):
    """Who counts."""

    def ended(self, function: str, body: str, code: Code, seconds: float) -> None:
        """A request has ended."""


class Desk:
    """The one place where requests wait.

    Attributes:
        functions: descriptions by name; empty until a process is ready.
        lines: what requests come over, as long as it is open.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        targets: Sequence[str],
        listener: LocalListener,
        observer: Observer,
        health: Callable[[bool], None],
    ) -> None:
        """
        Arguments:
            health: called when requests can be served, and when no longer.
        """
        self.functions: dict[str, Description] = {}
        self.lines: set[OpenLine] = set()
        self.settings = settings
        self.sessions = Sessions(settings, self._forget, time.monotonic)
        self.pool = Pool(settings, targets, listener, self._replied, self._changed)
        self._observer = observer
        self._health = health
        self._loop = asyncio.get_running_loop()
        self._queue = FairQueue()
        self._gathering = Gathering(self._loop.call_later, settings.max_batch, self._gathered)
        self._numbers = itertools.count(1)
        self._held: Counter[str] = Counter()
        self._held_bytes: Counter[str] = Counter()
        self._points: dict[Task, tuple[Description, Point]] = {}
        self._requests = 0
        self._mean_seconds = 0.01
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._sweeping = self._loop.call_later(SWEEP, self._sweep)

    async def start(self) -> None:
        """Starts the pool; returns when it serves. Raises what keeps its processes from starting."""
        self.pool.start()
        self.functions = await self.pool.ready
        self._tell_health()

    # ---- requests ----------------------------------------------------------------------------------------------------

    def require_ready(self) -> None:
        """Raises Refused as long as nothing is served yet."""
        if not self.functions:
            raise Refused(Code.UNAVAILABLE, "the server is starting", retry_after=1.0)

    def describe(self, name: str) -> Description:
        """Raises Refused when there is no such function."""
        if name not in self.functions:
            close = get_close_matches(name, self.functions, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise Refused(
                Code.NOT_FOUND, f"there is no function {name!r}{hint}; served are {', '.join(sorted(self.functions))}"
            )
        return self.functions[name]

    def submit(
        self,
        client: Client,
        request: Request,
        payload: Payload,
        timeout: float | None,
        done: Callable[[Outcome], None],
    ) -> Task:
        """Takes a request in; `done` is called once, later or at once, when it has ended. Then its payload is released.

        Arguments:
            timeout: seconds after which it is given up.

        Raises:
            Refused: the client is no longer let in, it does not fit, or there is no room; `done` is not called, and the
                payload is released.
        """
        try:
            client.require_welcome()
            _require_number(timeout)
            task = self._checked(client, request, payload, done)
        except BaseException:
            payload.release()
            raise
        if timeout is not None:
            task.deadline = self._loop.call_later(max(timeout, 0), self._expire, task, timeout)
        self.sessions.use(task.session, 1)
        self._held[client.name] += 1
        self._held_bytes[client.name] += payload.size
        self._requests += 1
        self._idle.clear()
        delay = self.functions[task.function].max_delay
        # Who has less time than that is not kept waiting.
        if task.batch is not None and delay > 0 and (timeout is None or timeout > delay):
            self._gathering.put(task, delay)
        else:
            self._gathered([task])
        return task

    def _gathered(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            self._queue.put(task)
        self._dispatch()

    def _checked(self, client: Client, request: Request, payload: Payload, done: Callable[[Outcome], None]) -> Task:
        """A request as a task, with room for the session it opens. Raises Refused."""
        self._require_room(client, payload)
        session = self.sessions.find(request.session, client) if request.session else None
        checked = self._check(request, payload, session)
        opens = request.body == "linearize"
        if opens:
            self.sessions.reserve(client)
        task = Task(
            next(self._numbers),
            client,
            checked.function.name,
            request,
            payload,
            checked.batch if payload.inline is not None else None,
            session.process if session is not None else None,
            session.name if session is not None else "",
            done,
            time.monotonic(),
        )
        if opens:
            moving = {name: checked.point.arguments[name] for name in request.message.with_respect_to}
            self._points[task] = checked.function, Point(moving, checked.point.symbols)
        return task

    def _check(self, request: Request, payload: Payload, session: Session | None) -> Checked:
        """Checks a request, unless one like it was. Raises Refused."""
        if request.checked is not None:
            return request.checked
        body, message = request.body, request.message
        function = session.function if session is not None else self.describe(message.function)
        headers = read_headers(message, payload.size)
        point = check_request(function, body, message, headers, session.point if session is not None else None)
        if session is not None:  # which has an end, and is not everybody's
            return Checked(function, point, None)
        batchable = function.batchable and body != "linearize"
        request.checked = Checked(
            function, point, batch_key(function, body, message, point, headers) if batchable else None
        )
        return request.checked

    def close_session(self, client: Client, name: str) -> None:
        """Raises Refused when there is no such session, or the client is no longer let in."""
        client.require_welcome()
        self.sessions.close(self.sessions.find(name, client))

    def give_up(self, task: Task, failure: pb.Failure | None = None) -> None:
        """Nobody wants the answer to a request any more. It ends soon, with that failure or its answer."""
        if task.given_up is not None:
            return
        task.given_up = failure or Refused(Code.CANCELLED, "the request was cancelled").to_pb()
        if not task.running:
            (self._gathering if task in self._gathering else self._queue).remove(task)
            self._end(task, task.given_up)
            return
        process = next(process for process in self.pool if task.number in process.tasks)
        if any(other.given_up is None for other in process.tasks.values()):  # computed with it, and wanted
            del process.tasks[task.number]
            self._end(task, task.given_up)
            return
        process.give_up(task)
        self._loop.call_later(self.settings.grace, self._lose_patience, process, task)

    def _expire(self, task: Task, timeout: float) -> None:
        self.give_up(task, Refused(Code.DEADLINE_EXCEEDED, f"not ready within {timeout:g} s").to_pb())

    def _lose_patience(self, process: Process, task: Task) -> None:
        if task.number in process.tasks:
            logger.warning("%s does not heed that a request was given up, and is killed", process)
            process.kill()

    def _require_room(self, client: Client, payload: Payload) -> None:
        if self._draining:
            raise Refused(Code.UNAVAILABLE, "the server ends", retry_after=1.0)
        settings = self.settings
        if payload.size > settings.max_request_bytes:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                f"a request with {payload.size} bytes of arrays, {settings.max_request_bytes} are allowed",
            )
        for found, limit, what in (
            (self._waiting, settings.max_queued, "requests wait"),
            (self._held[client.name], settings.max_queued_per_client, f"requests of {client.name} are under way"),
            (
                self._held_bytes[client.name] + payload.size,
                settings.max_bytes_per_client,
                f"bytes of arrays of {client.name} would be under way",
            ),
        ):
            if found >= limit:
                wait = self._waiting * self._mean_seconds / settings.workers
                raise Refused(
                    Code.RESOURCE_EXHAUSTED,
                    f"{found} {what}, and no more are taken",
                    retry_after=min(max(wait, SHORTEST_WAIT), LONGEST_WAIT),
                )

    @property
    def _waiting(self) -> int:
        return self._queue.waiting + self._gathering.waiting

    # ---- the pool ----------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Gives idle processes what waits."""
        if not self._queue.waiting:
            return
        for process in self.pool:
            if not process.idle:
                continue
            task = self._queue.take(process)
            if task is None:
                continue
            tasks = [task]
            if task.batch is not None:
                tasks += self._queue.take_alike(task.batch, self.settings.max_batch - 1)
            process.run(tasks)

    def _replied(self, process: Process, messages: list[LocalMessage]) -> None:
        for message in messages:
            number, encoded = split_id(message.encoded)
            task = process.tasks.pop(number, None)
            if task is None:  # the answer to `forget`
                self._drop(message.descriptor)
                continue
            try:
                outcome = self._outcome(process, task, message, encoded)
            except WireError as error:
                logger.error("%s sent nonsense: %s", process, error)
                outcome = Refused(Code.INTERNAL, f"the process that ran the request sent nonsense: {error}").to_pb()
            self._end(task, outcome)
        self._dispatch()

    def _outcome(self, process: Process, task: Task, message: LocalMessage, encoded: bytes) -> Outcome:
        if task.request.body == "linearize" or encoded[:1] == _FAILURE_TAG:
            response = decode_exchange(pb.StreamResponse, message.encoded, message.where != INLINE)
            if response.body == "failure":
                failed: pb.Failure = response.message
                return task.given_up if task.given_up and failed.code == Code.CANCELLED else failed
            function, point = self._points.pop(task)
            self.sessions.opened(response.message.session, task.client, process, function, point)
        return Reply(task.request.body, encoded, message.where, message.descriptor)

    def _drop(self, descriptor: int) -> None:
        if descriptor >= 0:
            os.close(descriptor)

    def _changed(self, process: Process, ready: bool) -> None:
        if not ready:
            self._lost(process)
        self._tell_health()
        self._dispatch()

    def _lost(self, process: Process) -> None:
        """What it ran is run again elsewhere, unless it has cost too many processes; its sessions are gone."""
        self.sessions.lost(process)
        tasks, process.tasks = process.tasks, {}
        for task in [*self._queue.bound_to(process), *tasks.values()]:
            task.running = False
            if task.given_up is not None:
                self._end(task, task.given_up)
            elif task.process is not None:
                lost = "the process that kept the session was lost, and the session with it: linearize again"
                self._end(task, Refused(Code.ABORTED, lost).to_pb())
            elif task.attempts >= self.settings.attempts:
                self._end(task, fatal(task.function, task.attempts, process.child.ending).to_pb())
            else:
                task.batch = None  # what killed the process shall not take others with it again
                self._queue.put(task, first=True)

    def _end(self, task: Task, outcome: Outcome) -> None:
        if task.deadline is not None:
            task.deadline.cancel()
        if self._points.pop(task, None) is not None:
            self.sessions.abandoned(task.client)
        self.sessions.use(task.session, -1)
        self._held[task.client.name] -= 1
        self._held_bytes[task.client.name] -= task.payload.size
        if not self._held[task.client.name]:
            del self._held[task.client.name], self._held_bytes[task.client.name]
            if not self._held:
                self._idle.set()
        seconds = time.monotonic() - task.began
        self._mean_seconds += 0.1 * (seconds - self._mean_seconds)
        code = Code(outcome.code) if isinstance(outcome, pb.Failure) else Code.OK
        self._observer.ended(task.function, task.request.body, code, seconds)
        task.done(outcome)
        task.payload.release()

    def _forget(self, session: Session) -> None:
        session.process.forget(session.name)

    def _sweep(self) -> None:
        """Ends what nobody uses any more, or nobody may."""
        self.sessions.sweep()
        for line in list(self.lines):
            if not line.busy and (refused := line.client.dismissal()) is not None:
                line.dismiss(refused)
        self._sweeping = self._loop.call_later(SWEEP, self._sweep)

    # ---- looks and ends ----------------------------------------------------------------------------------------------

    @property
    def serving(self) -> bool:
        return not self._draining and bool(self.functions) and any(process.ready for process in self.pool)

    def _tell_health(self) -> None:
        self._health(self.serving)

    def counts(self) -> dict[str, int]:
        """Numbers for operators."""
        processes = list(self.pool)
        return {
            "requests": self._requests,
            "queued": self._waiting,
            "running": sum(len(process.tasks) for process in processes),
            "clients": len(self._held),
            "sessions": len(self.sessions),
            "workers": sum(process.ready for process in processes),
            "workers_lost": self.pool.lost,
        }

    async def drain(self) -> bool:
        """Takes no more requests, and waits for those under way; False when some were not ready in time."""
        self._draining = True
        self._tell_health()
        self._gathering.release_all()
        try:
            async with asyncio.timeout(self.settings.drain):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Ends the pool. Requests under way end as UNAVAILABLE."""
        self._draining = True
        self._sweeping.cancel()
        self._gathering.release_all()
        gone = Refused(Code.UNAVAILABLE, "the server ends").to_pb()
        tasks = [*self._queue.all(), *(task for process in self.pool for task in process.tasks.values())]
        for task in tasks:
            if task.running:
                task.given_up = task.given_up or gone  # nobody else ends it while the processes do
            else:
                self.give_up(task, gone)
        for process in self.pool:
            process.tasks = {}
        await self.pool.close()
        for task in tasks:
            if task.running:
                self._end(task, gone)


def _require_number(timeout: float | None) -> None:
    """Raises Refused for NaN, which would keep the alarms of other requests from their order."""
    if timeout is not None and math.isnan(timeout):
        raise Refused(Code.INVALID_ARGUMENT, "the timeout is not a number")


_FAILURE_TAG = pb.StreamResponse(failure=pb.Failure()).SerializeToString()[:1]
