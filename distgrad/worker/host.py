"""The shards that live on a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from distgrad import nn
from distgrad.autograd import tape
from distgrad.errors import ConfigError, ContextError, ProgramError
from distgrad.graph.share import active
from distgrad.graph.waiting import Promise
from distgrad.nn.parameter import staged_buffers
from distgrad.optim import from_settings
from distgrad.wire import pb

from .ownership import Ownership
from .programs import Programs
from .shard import Shard, outputs_of, remote_methods


class Hosted:
    """A shard and what its worker knows of it."""

    def __init__(self, name: str, shard: Shard, program: str, seed: int) -> None:
        self.name = name
        self.shard = shard
        self.program = program
        self.seed = seed
        self.methods = remote_methods(type(shard))
        self.owner: Ownership | None = None


class Host:
    """Builds shards, finds the functions that calls mean, and keeps the owners of parameters."""

    def __init__(self, programs: Programs, worker: str) -> None:
        self.programs = programs
        self.worker = worker
        self.shards: dict[str, Hosted] = {}
        self.owners: dict[str, Ownership] = {}

    # ---- building ----------------------------------------------------------------------------------------------------

    def load(self, name: str, program: str, config: Mapping[str, Any], seed: int) -> Hosted:
        """Builds a shard. Its initial weights derive from `seed` and `name`, not from this worker.

        Raises:
            ProgramError: no such program, or its class refuses the config.
        """
        if name in self.shards:
            raise ConfigError(f"shard {name!r} lives on {self.worker} already")
        kind = self.programs.shard_class(program)
        try:
            with nn.random.seeded(seed, name):
                shard = kind(**config)
        except Exception as error:
            raise ProgramError(
                f"shard {name!r}: {program}({', '.join(f'{k}={v!r}' for k, v in config.items())}) failed on "
                f"{self.worker}: {type(error).__name__}: {error}"
            ) from error
        self.shards[name] = Hosted(name, shard, program, seed)
        return self.shards[name]

    def adopt(self, message: pb.Adopt, settings: Mapping[str, Any]) -> None:
        """Puts shards of this worker under an optimizer."""
        owner = self.owners.get(message.optimizer)
        if owner is None:
            optimizer = from_settings(message.kind, settings)
            owner = self.owners[message.optimizer] = Ownership(
                message.optimizer, optimizer, message.version, message.term
            )
        for name in message.shards:
            hosted = self.hosted(name)
            if hosted.owner is not None and hosted.owner is not owner:
                raise ConfigError(f"shard {name!r} is under optimizer {hosted.owner.name!r} already")
            if hosted.owner is None:
                hosted.owner = owner
                owner.adopt(name, hosted.shard)

    # ---- finding -----------------------------------------------------------------------------------------------------

    def hosted(self, name: str) -> Hosted:
        """The shard `name`, which must live here."""
        found = self.shards.get(name)
        if found is None:
            raise ProgramError(
                f"there is no shard {name!r} on {self.worker}; there are {', '.join(self.shards) or 'none'}"
            )
        return found

    def owner(self, optimizer: str) -> Ownership:
        """The owner of an optimizer's parameters here."""
        found = self.owners.get(optimizer)
        if found is None:
            raise ContextError(f"{self.worker} owns no parameters under optimizer {optimizer!r}")
        return found

    def resolve(self, call: pb.Call) -> Callable[..., Any] | Promise[Callable[..., Any]]:
        """The function a call means; a promise of it while the shard's parameters have yet to reach the version that
        the call's context began at.
        """
        if not call.shard:
            return partial(self._run, call, self.programs.function(call.method), 0)
        hosted = self.hosted(call.shard)
        if call.method not in hosted.methods:
            raise ProgramError(
                f"{call.shard}.{call.method} may not be called: {hosted.program} has the remote methods "
                f"{', '.join(hosted.methods) or 'none'} (mark methods with @dg.remote)"
            )
        function = partial(self._run, call, getattr(hosted.shard, call.method), hosted.seed)
        owner = hosted.owner
        if owner is None or owner.name not in call.context.versions:
            return function
        reached = owner.reached(call.context.versions[owner.name])
        return function if reached is None else _then(reached, function)

    def _run(self, call: pb.Call, function: Callable[..., Any], seed: int, /, *args: Any, **kwargs: Any) -> Any:
        """Runs a method with random numbers of its own and changes of buffers staged with its context."""
        share = active.get()
        path = tape.mode.get().frame.path
        context = call.context
        with nn.random.seeded(seed, call.shard, context.step, context.microbatch, *path):
            if share is None or not share.records:
                value = function(*args, **kwargs)
            else:
                with staged_buffers() as updates:
                    value = function(*args, **kwargs)
                if updates:
                    share.staged[path] = updates
        outputs = outputs_of(function)
        if outputs > 1 and (not isinstance(value, tuple) or len(value) != outputs):
            raise ProgramError(
                f"{call.method} is declared with outputs={outputs} but did not return a tuple of that length"
            )
        return value

    # ---- state -------------------------------------------------------------------------------------------------------

    def state(self, name: str) -> tuple[dict[str, Any], int]:
        """Parameters, buffers and optimizer state of a shard, and their version: references, not copies."""
        hosted = self.hosted(name)
        shard, owner = hosted.shard, hosted.owner
        state = {
            "parameters": {key: parameter.data for key, parameter in shard.named_parameters()},
            "buffers": {key: buffer.data for key, buffer in shard.named_buffers()},
            "optimizer": owner.state_of(name) if owner else {},
        }
        return state, owner.version if owner else 0

    def load_state(self, name: str, state: Mapping[str, Any], version: int) -> None:
        """Takes over what `state` returned, here or elsewhere, after checking it whole."""
        hosted = self.hosted(name)
        hosted.shard.load_state_dict({**state["parameters"], **state["buffers"]})
        if hosted.owner is not None:
            hosted.owner.load(name, state["optimizer"], version)


def _then(reached: Promise[None], function: Callable[..., Any]) -> Promise[Callable[..., Any]]:
    found: Promise[Callable[..., Any]] = Promise()

    def settle(promise: Promise[None]) -> None:
        if promise.error is not None:
            found.set_error(promise.error)
        else:
            found.set_result(function)

    reached.add_callback(settle)
    return found
