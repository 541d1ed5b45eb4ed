"""The shards that live on a worker."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

from distgrad import nn
from distgrad.autograd import tape
from distgrad.errors import ConfigError, ContextError, ProgramError
from distgrad.graph.functional import shard_frame
from distgrad.graph.share import active
from distgrad.graph.waiting import Promise
from distgrad.optim import from_settings
from distgrad.wire import pb, same_data
from distgrad.wire.dtypes import dtype_name

from .ownership import Ownership
from .programs import Programs
from .shard import Shard, is_private, outputs_of, remote_methods
from .twins import original

# Name of the dtype, and shape.
ArrayKind = tuple[str, tuple[int, ...]]


class Hosted:
    """A shard and what its worker knows of it.

    Attributes:
        methods: names of the remote methods, with their numbers of outputs.
        owner: of its parameters; None while it is under no optimizer.
    """

    def __init__(self, name: str, shard: Shard, program: str, config: Mapping[str, Any], seed: int) -> None:
        self.name = name
        self.shard = shard
        self.program = program
        self.config = config
        self.seed = seed
        self.methods = remote_methods(type(shard))
        self.owner: Ownership | None = None

    def __repr__(self) -> str:
        return f"<Hosted {self.name}: {self.program}>"


class Host:
    """Builds shards, finds the functions that calls mean, and keeps the owners of parameters."""

    def __init__(self, programs: Programs, worker: str) -> None:
        self.programs = programs
        self.worker = worker
        self.shards: dict[str, Hosted] = {}
        self.owners: dict[str, Ownership] = {}
        self._snapshot: dict[str, tuple[dict[str, Any], int]] = {}

    # ---- building ----------------------------------------------------------------------------------------------------

    def load(self, name: str, program: str, config: Mapping[str, Any], seed: int, anew: bool = False) -> Hosted:
        """Builds a shard. Its initial weights derive from `seed` and `name`, not from this worker. One that was built
        in the same way before is there already: a coordinator that was started anew meets it as it is.

        Arguments:
            anew: build it also then.

        Raises:
            ProgramError: no such program, or its class refuses the config.
            ConfigError: the name is taken by another shard.
        """
        held = self.shards.get(name)
        if held is not None and anew:
            self._release(held)
        elif held is not None and same_data((held.program, held.seed, held.config), (program, seed, config)):
            return held
        elif held is not None:
            raise ConfigError(f"another shard {name!r} lives on {self.worker} already: {held!r}")
        kind = self.programs.shard_class(program)
        try:
            with nn.random.seeded(seed, original(name)), tape.entered(frame=shard_frame(name)):
                shard = kind(**config)
        except Exception as error:
            settings = ", ".join(f"{key}={reprlib.repr(value)}" for key, value in config.items())
            raise ProgramError(
                f"shard {name!r}: {program}({settings}) failed on {self.worker}: {type(error).__name__}: {error}"
            ) from error
        self.shards[name] = Hosted(name, shard, program, config, seed)
        return self.shards[name]

    def unload(self, name: str) -> None:
        """Lets go of a shard and of what its optimizer keeps for it; nothing happens when it is not there."""
        if (hosted := self.shards.get(name)) is not None:
            self._release(hosted)

    def _release(self, hosted: Hosted) -> None:
        """Forgets a shard."""
        del self.shards[hosted.name]
        owner = hosted.owner
        if owner is not None:
            owner.release(hosted.name)
            if not owner.shards:
                del self.owners[owner.name]

    def adopt(self, message: pb.Adopt, settings: Mapping[str, Any]) -> None:
        """Puts shards of this worker under an optimizer: all of them, or, raising, none. Again: nothing happens.

        Raises:
            ProgramError: a shard does not live here.
            ConfigError: a shard is under another optimizer, or the optimizer has other settings.
            PermissionDenied: the coordinator's term is over.
        """
        optimizer = from_settings(message.kind, settings)
        owner = self.owners.get(message.optimizer)
        if owner is None:
            owner = Ownership(message.optimizer, optimizer, message.version, message.term)
        owner.check_term(message.term)
        if owner.optimizer != optimizer:
            raise ConfigError(f"optimizer {owner.name!r} is {owner.optimizer} on {self.worker}, not {optimizer}")
        adopted = [self.hosted(name) for name in message.shards]
        for hosted in adopted:
            if hosted.owner not in (None, owner):
                raise ConfigError(f"shard {hosted.name!r} is under optimizer {hosted.owner.name!r} already")
        self.owners[owner.name] = owner
        for hosted in adopted:
            hosted.owner = owner
            owner.adopt(hosted.name, hosted.shard)

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
        the call's context began at. Called from links' threads.

        Raises:
            ProgramError: there is no such shard or method, or it may not be called.
            ContextError: the version has been passed.
        """
        if not call.shard:
            return partial(self._run_function, call)
        hosted = self.hosted(call.shard)
        if call.method not in hosted.methods:
            raise ProgramError(
                f"{call.shard}.{call.method} may not be called: {hosted.program} has the remote methods "
                f"{', '.join(hosted.methods) or 'none'} (mark methods with @dg.remote)"
            )
        method = getattr(hosted.shard, call.method)
        owner = hosted.owner
        if owner is None or owner.name not in call.context.versions:
            return partial(self._run, call, method, hosted.seed)
        version = call.context.versions[owner.name]
        function = partial(self._run_at, owner, version, call, method, hosted.seed)
        reached = owner.reached(version)
        return function if reached is None else _then(reached, function)

    # ---- running -----------------------------------------------------------------------------------------------------

    def _run_function(self, call: pb.Call, /, *args: Any, **kwargs: Any) -> Any:
        """Runs a function of a program. It is found here, as a link's thread cannot wait for the program's imports."""
        return self._run(call, self.programs.function(call.method), 0, *args, **kwargs)

    def _run_at(
        self, owner: Ownership, version: int, call: pb.Call, method: Any, seed: int, /, *args: Any, **kwargs: Any
    ) -> Any:
        """Runs a method whose shard must be at a version from its first line to its last, however long it was in line
        or waits meanwhile."""
        owner.require(version)
        value = self._run(call, method, seed, *args, **kwargs)
        if isinstance(value, Coroutine):
            return _checked_after(value, partial(owner.require, version))
        owner.require(version)
        return value

    def _run(self, call: pb.Call, function: Callable[..., Any], seed: int, /, *args: Any, **kwargs: Any) -> Any:
        """What a function returns in its surroundings; a coroutine of that if it is one."""
        if iscoroutinefunction(function):
            return self._await(call, function, seed, *args, **kwargs)
        with self._surroundings(call, function, seed):
            return _checked(call, function, function(*args, **kwargs))

    async def _await(self, call: pb.Call, function: Callable[..., Any], seed: int, /, *args: Any, **kwargs: Any) -> Any:
        with self._surroundings(call, function, seed):
            return _checked(call, function, await function(*args, **kwargs))

    @contextmanager
    def _surroundings(self, call: pb.Call, function: Callable[..., Any], seed: int) -> Iterator[None]:
        """Random numbers of a call's own. Changes of buffers are staged with its context; outside any context they are
        dropped, and modules work in evaluation mode."""
        share = active.get()
        assert share is not None, "a call runs in the share it came in"
        training = share.records
        path = tuple(call.path)  # not the frame's: a call that is computed again must draw the same
        if is_private(function):
            share.calls[path].private = True
        random = nn.random.seeded(seed, original(call.shard), call.context.step, call.context.microbatch, *path)
        with random, nn.staged_buffers() as updates, nullcontext() if training else nn.evaluating():
            yield
        if updates and training:
            share.staged[path] = updates

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

    def take_snapshot(self, names: Sequence[str]) -> None:
        """Keeps what these shards hold now, instead of what was kept before. Costs references: updates swap arrays."""
        self._snapshot = {name: self.state(name) for name in names}

    def snapshot(self, name: str) -> tuple[dict[str, Any], int]:
        """What `state` said of a shard when the snapshot was taken.

        Raises:
            ContextError: the shard is not part of it.
        """
        if name not in self._snapshot:
            raise ContextError(f"the snapshot of {self.worker} that had shard {name!r} has been replaced by another")
        return self._snapshot[name]

    def check_state(self, name: str, given: Mapping[str, ArrayKind]) -> None:
        """Raises ConfigError unless a state of such arrays ("parameters/weight", ...) is one that `load_state` takes.
        Says all that does not fit."""
        own = state_kinds(self.state(name)[0])
        problems = [f"{key!r} is missing" for key in own if key not in given]
        problems += [f"{key!r} is not part of it" for key in given if key not in own]
        problems += [
            f"{key!r} is {_text(given[key])}, here it is {_text(kind)}"
            for key, kind in own.items()
            if given.get(key, kind) != kind
        ]
        if problems:
            raise ConfigError(f"the state does not fit shard {name!r} on {self.worker}: " + "; ".join(problems))

    def load_state(self, name: str, state: Mapping[str, Any], version: int | None = None) -> None:
        """Gives a shard the state that `state` returned, here or elsewhere; raising ConfigError, nothing of it.

        Arguments:
            state: without "optimizer", the optimizer's state stays.
            version: of that state; None: the present one.
        """
        hosted = self.hosted(name)
        owner = hosted.owner
        if "optimizer" in state:
            self.check_state(name, state_kinds(state))
        hosted.shard.load_state_dict({**state.get("parameters", {}), **state.get("buffers", {})})
        if owner is not None and "optimizer" in state:
            owner.load(name, state["optimizer"])
        if owner is not None and version is not None:
            owner.move_to(version)


def state_kinds(state: Mapping[str, Mapping[str, Any]]) -> dict[str, ArrayKind]:
    """The arrays of a shard's state by name ("optimizer/weight/mean"), as dtypes and shapes."""
    return {
        f"{part}/{name}": (dtype_name(array.dtype), tuple(array.shape))
        for part, arrays in state.items()
        for name, array in arrays.items()
    }


def _text(kind: ArrayKind) -> str:
    dtype, shape = kind
    return f"{dtype}{list(shape)}"


def _then(reached: Promise[None], function: Callable[..., Any]) -> Promise[Callable[..., Any]]:
    found: Promise[Callable[..., Any]] = Promise()

    def settle(promise: Promise[None]) -> None:
        if promise.error is not None:
            found.set_error(promise.error)
        else:
            found.set_result(function)

    reached.add_callback(settle)
    return found


async def _checked_after(coroutine: Coroutine[Any, Any, Any], check: Callable[[], None]) -> Any:
    """What a coroutine returns, if the check does not raise when it has."""
    value = await coroutine
    check()
    return value


def _checked(call: pb.Call, function: Callable[..., Any], value: Any) -> Any:
    """A value that has as many outputs as its function declares."""
    outputs = outputs_of(function)
    if outputs > 1 and (not isinstance(value, tuple) or len(value) != outputs):
        found = f"a tuple of {len(value)}" if isinstance(value, tuple) else f"a {type(value).__name__}"
        raise ProgramError(f"{call.method} is declared with outputs={outputs} but returned {found}")
    return value
