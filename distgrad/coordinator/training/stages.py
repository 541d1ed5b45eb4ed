"""The calls of one microbatch, as a job file writes them.

    "stem.forward"                     is given what the stage before returned; the first, the inputs
    "head.loss"                        as the last stage, is given the targets as well
    "head.loss(previous, table.all(), targets)"    says itself what it is given

What stands in parentheses is `inputs`, `targets`, `previous` (what the stage before returned), or another call, which
without parentheses of its own is given nothing. A value
goes straight from the worker that has it to the one that is given it, and its gradient comes back the same way: a
shard that returns a parameter shares it with the stage it is handed to, and receives the gradients of both uses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from distgrad.graph.urgency import USUAL, Urgencies, urgent

VALUES = ("inputs", "targets", "previous")

_TOKEN = re.compile(r"\s*([A-Za-z][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_]*)?|[(),])")


@dataclass(frozen=True)
class Stage:
    """One call.

    Attributes:
        arguments: calls and names of `VALUES`; None for what a stage is given by default.
    """

    shard: str
    method: str
    arguments: tuple[Stage | str, ...] | None = None

    def calls(self) -> Iterator[Stage]:
        """This call and those among its arguments, in the order in which they are made."""
        for argument in self.arguments or ():
            if isinstance(argument, Stage):
                yield from argument.calls()
        yield self

    def __str__(self) -> str:
        given = "" if self.arguments is None else f"({', '.join(map(str, self.arguments))})"
        return f"{self.shard}.{self.method}{given}"


def parse_stage(text: object) -> Stage:
    """The call that a text means.

    Raises:
        ValueError: it means none.
    """
    if not isinstance(text, str):
        raise ValueError
    tokens = _tokens(text)
    try:
        stage = _argument(tokens)
    except IndexError as error:  # it ends too early
        raise ValueError from error
    if tokens or not isinstance(stage, Stage):
        raise ValueError
    return stage


def run_stages(
    shards: Mapping[str, Any],
    stages: Sequence[Stage],
    inputs: Any,
    targets: Any = None,
    urgencies: Callable[[int], Urgencies] = lambda position: USUAL,
) -> Any:
    """Calls the stages one after the other without waiting; returns the Ref of the last.

    Arguments:
        shards: handles by name.
        inputs, targets: arrays or Refs; without targets, the last stage is not given any by default.
        urgencies: of the calls of each stage, by its position.
    """
    value = inputs
    for position, stage in enumerate(stages):
        values = {"inputs": inputs, "targets": targets, "previous": value}
        with urgent(urgencies(position)):
            value = run_stage(shards, stage, values, last=position == len(stages) - 1)
    return value


def run_stage(shards: Mapping[str, Any], stage: Stage, values: Mapping[str, Any], last: bool) -> Any:
    """Makes one call without waiting; returns its Ref.

    Arguments:
        values: what each of `VALUES` stands for; targets may be None.
        last: whether the stage is given the targets by default.
    """
    arguments: Sequence[Stage | str] | None = stage.arguments
    if arguments is None:
        arguments = ("previous", "targets") if last and values["targets"] is not None else ("previous",)
    given = [
        values[argument] if isinstance(argument, str) else run_stage(shards, argument, values, last=False)
        for argument in arguments
    ]
    return getattr(shards[stage.shard], stage.method)(*given)


def _tokens(text: str) -> list[str]:
    """The words and signs of a text, the last first."""
    found, position = [], 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError
        found.append(match[1])
        position = match.end()
    return found[::-1]


def _argument(tokens: list[str]) -> Stage | str:
    """Takes a name or a call off the tokens."""
    word = tokens.pop()
    if word in VALUES:
        return word
    shard, dot, method = word.partition(".")
    if not dot:
        raise ValueError
    return Stage(shard, method, _arguments(tokens) if tokens[-1:] == ["("] else None)


def _arguments(tokens: list[str]) -> tuple[Stage | str, ...]:
    """Takes what stands in parentheses off the tokens."""
    sign = tokens.pop()
    if tokens[-1:] == [")"]:
        sign = tokens.pop()
    arguments: list[Stage | str] = []
    while sign != ")":
        argument = _argument(tokens)
        if isinstance(argument, Stage) and argument.arguments is None:
            argument = replace(argument, arguments=())
        arguments.append(argument)
        sign = tokens.pop()
        if sign not in (",", ")"):
            raise ValueError
    return tuple(arguments)
