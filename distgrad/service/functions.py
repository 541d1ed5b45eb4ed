"""What is served: functions, and methods of objects, of programs that the server was started with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distgrad.errors import ProgramError
from distgrad.wire import pb
from distgrad.worker.programs import Programs

from .served import Declaration, declaration_of
from .specs import Anything, ArraySpec, Tree, leaves, moves, spec_from_pb, spec_to_pb

_EVERY = [product for product in pb.Product.values() if product]
# Only for functions that return one real scalar.
_OF_SCALARS = frozenset({pb.PRODUCT_VALUE_AND_GRADIENT, pb.PRODUCT_HESSIAN})


@dataclass(frozen=True)
class Description:
    """All that is known of a function without its program: what requests are checked against.

    Attributes:
        takes: spec of each argument, in order.
        optional: arguments that may be left out.
        max_delay: seconds that a batchable request may wait for others.
    """

    name: str
    documentation: str
    takes: dict[str, Tree]
    optional: frozenset[str]
    gives: Tree
    batchable: bool
    max_delay: float

    @property
    def differentiable(self) -> frozenset[str]:
        """Arguments that may be differentiated by, as far as they are declared."""
        return frozenset(name for name, spec in self.takes.items() if _may_move(spec))

    @property
    def products(self) -> list[int]:
        if not self.differentiable or not _may_move(self.gives):
            return [pb.PRODUCT_EVALUATE]
        scalar = _may_be_real_scalar(self.gives)
        return [product for product in _EVERY if scalar or product not in _OF_SCALARS]

    def to_pb(self) -> pb.DescribeFunctionResponse:
        message = pb.DescribeFunctionResponse(
            name=self.name,
            documentation=self.documentation,
            result=spec_to_pb(self.gives),
            products=self.products,  # type: ignore[arg-type]  # numbers of an enum's values
            batchable=self.batchable,
            max_delay_seconds=self.max_delay,
        )
        for name, spec in self.takes.items():
            message.arguments.add(
                name=name,
                spec=spec_to_pb(spec),
                optional=name in self.optional,
                differentiable=name in self.differentiable,
            )
        return message

    @classmethod
    def from_pb(cls, message: pb.DescribeFunctionResponse) -> Description:
        return cls(
            message.name,
            message.documentation,
            {argument.name: spec_from_pb(argument.spec) for argument in message.arguments},
            frozenset(argument.name for argument in message.arguments if argument.optional),
            spec_from_pb(message.result),
            message.batchable,
            message.max_delay_seconds,
        )


def _may_move(spec: Tree) -> bool:
    """Whether values that fit a spec may have derivatives."""
    found = leaves(spec)
    return bool(found) and all(isinstance(leaf, Anything) or leaf.dtype == "" or moves(leaf) for leaf in found)


def _may_be_real_scalar(spec: Tree) -> bool:
    if isinstance(spec, ArraySpec):
        return not spec.shape and "complex" not in spec.dtype
    return isinstance(spec, Anything)


@dataclass(frozen=True)
class ServedFunction:
    """A function in the process that runs it.

    Attributes:
        keeps: it belongs to an object, which may keep what it is given.
    """

    description: Description
    call: Callable[..., Any]
    keeps: bool


class Served:
    """All functions of the targets, loaded. Objects of classes are made once, without arguments, and live as long.

    Arguments:
        targets: "[NAME=]FILE.py:FUNCTION" or "[NAME=]FILE.py:CLASS".

    Raises:
        ProgramError: a file or name does not exist, a program fails, or what it names cannot be served.
    """

    def __init__(self, targets: Sequence[str]) -> None:
        self.functions: dict[str, ServedFunction] = {}
        self.folders: list[Path] = []
        self._objects: list[Any] = []
        programs: dict[Path, Programs] = {}
        for target in targets:
            name, found = self._find(target, programs)
            for function in self._functions(name, found):
                if function.description.name in self.functions:
                    raise ProgramError(
                        f"two functions are called {function.description.name!r}: name one by NAME={target}"
                    )
                self.functions[function.description.name] = function
        self.folders = list(programs)

    def _find(self, target: str, programs: dict[Path, Programs]) -> tuple[str, Any]:
        name, _, where = target.rpartition("=")
        file, colon, attribute = where.rpartition(":")
        path = Path(file)
        if not colon or path.suffix != ".py":
            raise ProgramError(f"{target!r} is not FILE.py:FUNCTION, FILE.py:CLASS, or one with NAME= in front")
        folder = path.parent.resolve()
        if folder not in programs:
            programs[folder] = Programs(folder)
        return name or attribute, programs[folder].find(f"{path.name}:{attribute}")

    def _functions(self, name: str, found: Any) -> list[ServedFunction]:
        if not isinstance(found, type):
            if not callable(found):
                raise ProgramError(f"{name} is a {type(found).__name__}: only functions and classes can be served")
            return [ServedFunction(_describe(name, found), found, keeps=not inspect.isfunction(found))]
        try:
            made = found()
        except Exception as error:
            raise ProgramError(f"{name}() raised {type(error).__qualname__}: {error}") from error
        self._objects.append(made)
        methods = {key: getattr(made, key) for key in dir(found) if declaration_of(getattr(found, key, None))}
        if not methods and callable(made):
            methods = {"__call__": made.__call__}
        if not methods:
            raise ProgramError(f"the class {name} has nothing to serve: mark methods with @dg.served")
        return [
            ServedFunction(_describe(name if key == "__call__" else f"{name}.{key}", method), method, keeps=True)
            for key, method in methods.items()
        ]

    def close(self) -> None:
        """Closes the objects that can be closed."""
        for made in reversed(self._objects):
            if callable(close := getattr(made, "close", None)):
                close()


def _describe(name: str, function: Any) -> Description:
    declared = declaration_of(function) or Declaration()
    takes: dict[str, Tree] = {}
    optional = set()
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ProgramError(f"{name} cannot be served: its parameter {parameter} has no name that requests can use")
        takes[parameter.name] = declared.takes.get(parameter.name, Anything())
        if parameter.default is not parameter.empty:
            optional.add(parameter.name)
    unknown = declared.takes.keys() - takes.keys()
    if unknown:
        raise ProgramError(f"{name} declares {sorted(unknown)}, and takes {list(takes)}")
    return Description(
        name,
        inspect.getdoc(function) or "",
        takes,
        frozenset(optional),
        declared.gives,
        declared.batchable,
        declared.max_delay,
    )
