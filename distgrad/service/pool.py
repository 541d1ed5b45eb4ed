"""The processes that run requests: started, connected, watched, and started again when they are lost."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict

from distgrad.errors import DistgradError, WorkerLost
from distgrad.transport.local_messages import LENT, OWN, LocalMessage, LocalReader, packed
from distgrad.wire import pb
from distgrad.wire.exchanges import encode_exchange, with_id
from distgrad.worker.child import failure
from distgrad.worker.children import Child, Children, Event, how_it_ended

from .functions import Description
from .local import LocalConnection, LocalListener
from .settings import MiB, ServiceSettings, ServingOrders
from .tasks import Task

# A process that ends before it is ready is started again after so many seconds, then twice as many, up to the last.
FIRST_PAUSE, LAST_PAUSE = 0.1, 5.0

logger = logging.getLogger("distgrad.service")


class Process:
    """One process of the pool.

    Attributes:
        tasks: what it runs, by their numbers; it is idle when there is nothing.
    """

    def __init__(self, name: str, child: Child) -> None:
        self.name = name
        self.child = child
        self.tasks: dict[int, Task] = {}
        self.connection: LocalConnection | None = None
        self.told_ready = False

    @property
    def ready(self) -> bool:
        return self.told_ready and self.connection is not None

    @property
    def idle(self) -> bool:
        return self.ready and not self.tasks

    def run(self, tasks: Sequence[Task]) -> None:
        """Sends it requests, which it answers together when they are several."""
        assert self.connection is not None
        self.tasks = {task.number: task for task in tasks}
        message = b""
        descriptor = -1
        for task in tasks:
            task.attempts += 1
            task.running = True
            inline = task.payload.inline
            encoded = with_id(task.number, task.request.heading)
            message += packed([encoded], LENT) if inline is None else packed([encoded, inline])
            descriptor = task.payload.descriptor
        self.connection.send(message, descriptor)

    def forget(self, session: str) -> None:
        """Tells it that nobody uses a session any more; its answer is nobody's."""
        if self.connection is not None:
            request = pb.CloseSessionRequest(session=session)
            self.connection.send(packed(encode_exchange(pb.StreamRequest(id=0), "close_session", request)))

    def give_up(self, task: Task) -> None:
        """Interrupts a request."""
        self.child.say({"give_up": task.number})

    def kill(self) -> None:
        self.child.signal(signal.SIGKILL)

    def __repr__(self) -> str:
        return f"<Process {self.name} {'running ' + str(len(self.tasks)) if self.tasks else 'idle'}>"


class Pool:
    """The processes.

    Arguments:
        targets: what they serve.
        listener: where they connect.
        replied: called with a process and the messages it has sent.
        changed: called with a process that became ready (True), or was lost and had these tasks (False).

    Attributes:
        ready: becomes the descriptions of what is served, when a first process is ready; or the error why none is.
        lost: how many have ended without being told to.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        targets: Sequence[str],
        listener: LocalListener,
        replied: Callable[[Process, list[LocalMessage]], None],
        changed: Callable[[Process, bool], None],
    ) -> None:
        self.ready: asyncio.Future[dict[str, Description]] = asyncio.get_running_loop().create_future()
        self.lost = 0
        self._settings = settings
        self._targets = list(targets)
        self._listener = listener
        self._replied = replied
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._directory = Path(tempfile.mkdtemp(prefix="distgrad-serve-"))
        self._children = Children(self._directory, settings.blas_threads, self._heard)
        self._processes: dict[str, Process] = {}
        self._started = 0
        self._pause = FIRST_PAUSE
        self._closing = False

    def start(self) -> None:
        """Starts the processes; returns before they are ready."""
        for _ in range(self._settings.workers):
            self._start_one()

    def __iter__(self) -> Any:
        return iter(list(self._processes.values()))

    def _start_one(self) -> None:
        if self._closing:
            return
        name = f"s{self._started}"
        self._started += 1
        process = self._processes[name] = Process(name, self._children.start(name, "distgrad.service.process"))
        ticket = self._listener.ticket(lambda connected: self._connected(process, connected))
        process.child.begin(
            ServingOrders(
                name=name,
                directory=str(self._directory),
                socket=self._listener.name,
                ticket=ticket.hex(),
                targets=self._targets,
                lease=self._settings.lease,
                max_bytes=self._settings.max_message_bytes + MiB,
            )
        )

    def _connected(self, process: Process, connected: socket.socket) -> None:
        reader = LocalReader(frozenset({OWN}), self._settings.max_request_bytes)
        process.connection = LocalConnection(
            self._loop,
            connected,
            reader,
            lambda messages: self._replied(process, messages),
            lambda reason: self._disconnected(process),
            # What it is given at a time: requests that are computed as one, and a few words.
            max_pending=(self._settings.max_batch + 4) * self._settings.max_message_bytes,
        )
        self._became_ready(process)

    def _heard(self, child: Child, event: Event) -> None:
        """In the child's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._note, child, event)

    def _note(self, child: Child, event: Event) -> None:
        process = self._processes.get(child.name)
        if process is None:
            return
        if event["event"] == "ready":
            process.told_ready = True
            if not self.ready.done():
                described = [ParseDict(plain, pb.DescribeFunctionResponse()) for plain in event["functions"]]
                self.ready.set_result({message.name: Description.from_pb(message) for message in described})
            self._became_ready(process)
        elif event["event"] == "failed":
            self._cannot_start(failure(event))
        elif event["event"] == "exited":
            self._ended(process)

    def _became_ready(self, process: Process) -> None:
        if process.ready:
            self._pause = FIRST_PAUSE
            self._changed(process, True)

    def _cannot_start(self, error: DistgradError) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
        else:
            logger.error("a process of the pool cannot start: %s", error)

    def _disconnected(self, process: Process) -> None:
        """Whatever it still does, it cannot tell."""
        process.connection = None
        process.kill()

    def _ended(self, process: Process) -> None:
        del self._processes[process.name]
        if process.connection is not None:
            process.connection.close("the process has ended")
        if self._closing:
            return
        self.lost += 1
        reason = how_it_ended(process.child)
        logger.warning("a process of the pool is lost: %s\n%s", reason, process.child.tail())
        if not self.ready.done():
            self.ready.set_exception(WorkerLost(f"{reason} before it could serve:\n{process.child.tail()}"))
        self._children.forget(process.name)
        self._changed(process, False)
        if process.told_ready:
            self._start_another()
        else:
            self._start_later()

    def _start_another(self) -> None:
        try:
            self._start_one()
        except OSError as error:  # the system has no room for it now
            logger.error("a process of the pool cannot be started: %s", error)
            self._start_later()

    def _start_later(self) -> None:
        self._loop.call_later(self._pause, self._start_another)
        self._pause = min(2 * self._pause, LAST_PAUSE)

    async def close(self) -> None:
        """Ends all processes."""
        self._closing = True
        await asyncio.to_thread(self._children.stop)
        for process in self._processes.values():
            if process.connection is not None:
                process.connection.close("the server ends")
        shutil.rmtree(self._directory, ignore_errors=True)
