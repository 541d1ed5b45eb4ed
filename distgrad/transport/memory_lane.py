"""Lanes inside one process, for tests: a seeded scheduler decides what happens next.

Frames of one direction of a lane stay in order; everything else (which lane moves, how long a frame is under way,
whether a lane breaks with frames in it) is drawn from the seed. Addresses are "memory:NAME".
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from distgrad.errors import LinkError

from .interfaces import Port

# Frames under way in one direction; more wait at their sender, as they do for a socket.
CAPACITY = 4


class MemoryLane:
    """Implements `Lane`: one end of a pair.

    Attributes:
        under_way: frames written at this end that have not arrived at the other.
        arrived: how many have.
        ready: whether the port may have something to take.
    """

    def __init__(self, network: MemoryNetwork, port: Port, owner: MemoryLanes) -> None:
        self.port = port
        self.owner = owner
        self.other: MemoryLane
        self.under_way: deque[bytes] = deque()
        self.arrived = 0
        self.ready = False
        self._network = network

    def wake(self) -> None:
        self._network.woken(self)

    def close(self) -> None:
        self._network.cut(self, "the lane was closed")

    def relieve(self, now: float) -> None:
        """The network's thread does nothing else."""


class MemoryNetwork:
    """Connects the endpoints of one test. Moves by itself, in a thread; while paused, step by step.

        network = MemoryNetwork(seed=7, breaks=0.01)
        a = Endpoint(identity, settings, receiver, network.lanes())
        a.listen("memory:a")

    With the same seed and all calls made while it is paused, the same happens again.
    """

    def __init__(self, seed: int = 0, *, duplicates: float = 0.0, breaks: float = 0.0) -> None:
        """
        Arguments:
            duplicates: probability that a frame after the handshake arrives twice.
            breaks: probability, for every frame that would arrive, that its lane breaks instead and loses what is under
                way.
        """
        self.duplicates = duplicates
        self.breaks = breaks
        self._random = random.Random(seed)
        self._listeners: dict[str, tuple[Callable[[], Port], MemoryLanes]] = {}
        self._lanes: list[MemoryLane] = []
        self._broken: deque[tuple[Port, str]] = deque()
        self._stepping = threading.RLock()  # held during a step; taken before the other
        self._changed = threading.Condition(threading.RLock())  # guards all above
        self._paused = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="distgrad-memory-network", daemon=True)
        self._thread.start()

    def lanes(self) -> MemoryLanes:
        """A way to make lanes, for one endpoint."""
        return MemoryLanes(self)

    def pause(self) -> None:
        """From now on only `step` moves anything. Returns when the step under way has ended."""
        with self._changed:
            self._paused = True
        with self._stepping:
            return

    def resume(self) -> None:
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def step(self) -> bool:
        """One thing happens: a port learns that its lane broke, a frame leaves or arrives. False: nothing can."""
        with self._stepping:
            with self._changed:
                if self._broken:
                    port, reason = self._broken.popleft()
                    action: Callable[[], Any] | None = lambda: port.broken(reason)  # noqa: E731
                else:
                    action = self._choose()
            if action is not None:
                action()
            return action is not None

    def close(self) -> None:
        """Ends the thread. Endpoints are closed before."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> MemoryNetwork:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ---- for lanes

    def listen(self, address: str, accept: Callable[[], Port], owner: MemoryLanes) -> None:
        with self._changed:
            if address in self._listeners:
                raise LinkError(f"cannot listen at {address}: the address is taken")
            self._listeners[address] = accept, owner

    def leave(self, owner: MemoryLanes) -> None:
        """An endpoint ends: its addresses and lanes are no more."""
        with self._changed:
            self._listeners = {at: listener for at, listener in self._listeners.items() if listener[1] is not owner}
            for lane in [lane for lane in self._lanes if lane.owner is owner]:
                self.cut(lane, "its endpoint was closed")

    def listens(self, address: str) -> bool:
        return address in self._listeners

    def open(self, address: str, port: Port, owner: MemoryLanes) -> None:
        with self._changed:
            accept, other_owner = self._listeners.get(address, (None, owner))
            if accept is None:
                self._broken.append((port, f"nobody listens at {address}"))
                self._changed.notify_all()
                return
        other_port = accept()
        near, far = MemoryLane(self, port, owner), MemoryLane(self, other_port, other_owner)
        near.other, far.other = far, near
        with self._changed:
            self._lanes += [near, far]
        other_port.plugged(far)
        port.plugged(near)

    def woken(self, lane: MemoryLane) -> None:
        with self._changed:
            lane.ready = True
            self._changed.notify_all()

    def cut(self, lane: MemoryLane, reason: str) -> None:
        with self._changed:
            if lane not in self._lanes:
                return
            for end in (lane, lane.other):
                self._lanes.remove(end)
                self._broken.append((end.port, reason))
            self._changed.notify_all()

    # ---- the scheduler

    def _run(self) -> None:
        while not self._closed:
            if self._paused or not self.step():
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or (not self._paused and self._can_move()))

    def _can_move(self) -> bool:
        return bool(self._broken) or any(lane.under_way or lane.ready for lane in self._lanes)

    def _choose(self) -> Callable[[], None] | None:
        moves: list[Callable[[], None]] = []
        for lane in self._lanes:
            if lane.under_way:
                moves.append(lambda lane=lane: self._arrive(lane))  # type: ignore[misc]
            if lane.ready and len(lane.under_way) < CAPACITY:
                moves.append(lambda lane=lane: self._leave(lane))  # type: ignore[misc]
        return self._random.choice(moves) if moves else None

    def _leave(self, lane: MemoryLane) -> None:
        lane.ready = False
        frames = lane.port.take()
        lane.under_way += [b"".join(pieces) for pieces in frames]
        if frames or (lane.port.finished and lane.under_way):
            self.woken(lane)
        elif lane.port.finished:
            self.cut(lane, "the lane ended")

    def _arrive(self, lane: MemoryLane) -> None:
        if lane.arrived and self._random.random() < self.breaks:
            self.cut(lane, "the lane broke by chance")
            return
        again = lane.arrived > 0 and self._random.random() < self.duplicates
        frame = lane.under_way[0] if again else lane.under_way.popleft()
        lane.arrived += 1
        lane.other.port.received(frame)


class MemoryLanes:
    """Implements `Lanes`."""

    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network

    def listen(self, address: str, accept: Callable[[], Port]) -> str:
        self._network.listen(address, accept, self)
        return address

    def open(self, address: str, port: Port) -> None:
        self._network.open(address, port, self)

    def vacant(self, address: str) -> bool:
        return not self._network.listens(address)

    def close(self) -> None:
        self._network.leave(self)
