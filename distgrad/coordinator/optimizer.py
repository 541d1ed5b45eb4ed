"""An optimizer of parameters that live on several workers, as a client steps it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distgrad.errors import ConfigError, ContextClosed, Timeout
from distgrad.graph.context import Context
from distgrad.graph.share import owner_tag
from distgrad.optim import Optimizer
from distgrad.wire import pb
from distgrad.worker.member import COORDINATOR

from .arguments import require_number
from .coroutines import in_thread

if TYPE_CHECKING:
    from .client import Client

# Seconds between the checks of `Turn.check`.
CHECK_EVERY = 0.05


@dataclass(frozen=True)
class Turn:
    """A step that is one of several, which as many clients take from one version; see `rounds`.

    Attributes:
        number: of this step among them, from 0.
        of: how many there are.
        loss: told to the others.
        check: called now and then while waiting for them; may raise to end the wait.
    """

    number: int = 0
    of: int = 1
    loss: float = 0.0
    check: Callable[[], None] = lambda: None


class RemoteOptimizer:
    """An optimizer of parameters that live on several workers. A step happens on every owner or on none.

    Attributes:
        version: number of steps taken.
    """

    def __init__(self, client: Client, name: str, settings: Optimizer, version: int) -> None:
        self._client = client
        self.name = name
        self.settings = settings
        self.version = version

    def step(
        self,
        *contexts: Context,
        clip_norm: float = 0.0,
        learning_rate: float | None = None,
        turn: Turn | None = None,
    ) -> StepResult:
        """One update with the gradients of `contexts`, summed in this order. Waits for the calls made in them.

        When it returns, the step was taken, on every owner that is there (unless a gradient was not finite: see
        `StepResult`); when it raises, nobody has changed and `version` is as before. Only when the coordinator is lost
        in the middle does nobody know.

        Arguments:
            clip_norm: gradients are scaled down so that their norm, all parameters together, is at most this; 0: never.
            learning_rate: of this step; None: the optimizer's own.
            turn: when several clients take a step each from one version. It then returns when all have, and `version`
                is that of the last.

        Raises:
            WorkerLost: an owner is gone.
            ContextClosed: a context was left before; step inside its block.
            ContextError: another client has taken this step.
            RemoteError, ...: a call made in a context has failed and nobody has seen it yet.
        """
        if not contexts:
            raise ConfigError("step() needs the contexts whose gradients to apply: step(ctx)")
        require_number("step", clip_norm=clip_norm, learning_rate=0.0 if learning_rate is None else learning_rate)
        for context in contexts:
            if not isinstance(context, Context):
                raise ConfigError(
                    f"step() got {context!r}, expected contexts: step(ctx), or step(*contexts) for a list"
                )
            if context.id.rpartition("/")[0] != owner_tag(self._client.process.identity):
                raise ConfigError(f"step() got {context!r}, which is another client's: use cluster.context()")
            if context.closed:
                raise ContextClosed(f"{context!r} has released its gradients; call step() inside its `with` block")
            context.wait()
            context.settle()
        if len({context.id for context in contexts}) < len(contexts):
            raise ConfigError("step() got a context twice, whose gradients would count twice")
        turn = turn or Turn()
        request = pb.UpdateStep(
            optimizer=self.name,
            version=self.version + turn.number + 1,
            contexts=[context.id for context in contexts],
            clip_norm=clip_norm,
            learning_rate=learning_rate,  # absent when None
            turn=turn.number,
            turns=turn.of,
            loss=turn.loss,
        )
        reply = self._answer(request, turn.check)
        if reply.applied:
            self.version = reply.version
        return StepResult(reply.applied, reply.norm, tuple(reply.losses))

    def _answer(self, request: pb.UpdateStep, check: Callable[[], None]) -> pb.Updated:
        process = self._client.process
        promise = process.request(COORDINATOR, request)
        while not promise.done:
            with suppress(Timeout):
                process.executor.wait(promise, CHECK_EVERY, what="the step")
            check()
        reply: pb.Updated = promise.result()[0]
        return reply

    step_async = in_thread(step)

    def __repr__(self) -> str:
        return f"<RemoteOptimizer {self.name}: {self.settings}, version {self.version}>"


class StepResult:
    """What a step did.

    Attributes:
        applied: False when a gradient was not finite, so that nobody has changed anything.
        norm: Euclidean norm of all gradients, before clipping.
        losses: what the clients of its round have told, in the order of their turns.
    """

    __slots__ = ("applied", "losses", "norm")

    def __init__(self, applied: bool, norm: float, losses: tuple[float, ...] = ()) -> None:
        self.applied = applied
        self.norm = norm
        self.losses = losses

    def __repr__(self) -> str:
        return f"StepResult(applied={self.applied}, norm={self.norm:.6g})"
