"""What the author of a served function says about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from distgrad.errors import ConfigError

from .specs import Anything, Tree, parse_spec

F = TypeVar("F", bound=Callable[..., Any])

_DECLARED = "_distgrad_served"


@dataclass(frozen=True)
class Declaration:
    """What `served` was told; the defaults say nothing."""

    takes: Mapping[str, Tree] = field(default_factory=dict)
    gives: Tree = field(default_factory=Anything)
    batchable: bool = False
    max_delay: float = 0.0


@overload
def served(function: F) -> F: ...
@overload
def served(
    *, takes: Mapping[str, Any] | None = None, gives: Any = None, batchable: bool = False, max_delay: float = 0.0
) -> Callable[[F], F]: ...
def served(
    function: Any = None,
    *,
    takes: Mapping[str, Any] | None = None,
    gives: Any = None,
    batchable: bool = False,
    max_delay: float = 0.0,
) -> Any:
    """Declares what a function takes and gives, so that requests which do not fit are refused before any work.

        @dg.served(takes={"x": "float64[n]"}, gives="float64", batchable=True)
        def rosenbrock(x):
            return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    Without it a function can be served as well; it is then told of any value it cannot use by its own exception. On a
    method it also says that the method is to be served when its class is; a bare @dg.served says no more than that.

    Arguments:
        takes: by argument "float64[n, 3]", "float64[...]", "int64", "[n]" (any dtype), "any", or a dict, list or tuple
            of these. What converts without loss is converted. Axes of one name have one length.
        gives: the same of the result. A request for a result that is something else fails, and says what was returned.
        batchable: small requests of equal shapes that wait at the same time may be computed as one, by `dg.vmap`,
            which may change the last bits of results. Numbers in place of arrays must then be the same in all, unless
            they are declared with a dtype.
        max_delay: seconds that a batchable request waits for others to be computed with, unless they are enough before
            (`max_batch`), or its deadline is nearer. By default none waits for others to come.

    Arrays are given to the function read-only; one that keeps them beyond its return must copy them. Objects, whose
    methods may keep what they are given, get copies. Every process of the server has its own objects, and a request
    whose process is lost is started again in another: what a call leaves behind is not for other calls to rely on.

    Raises:
        ConfigError: a declaration is not understood.
    """
    if max_delay < 0 or (max_delay and not batchable):
        raise ConfigError(f"max_delay is for batchable functions, in seconds, not below 0; found {max_delay}")
    if not isinstance(takes, Mapping | None):
        raise ConfigError(f'takes={takes!r}, expected a dict by argument, like {{"x": "float64[n]"}}')
    declaration = Declaration(
        {name: parse_spec(written, f"argument {name}") for name, written in (takes or {}).items()},
        Anything() if gives is None else parse_spec(gives, "the result"),
        batchable,
        max_delay,
    )

    def declare(function: F) -> F:
        if not callable(function):
            raise ConfigError(f"@served declares functions and methods, not {function!r}")
        if isinstance(function, type):
            raise ConfigError(f"@served declares functions and methods, not the class {function.__name__}")
        setattr(function, _DECLARED, declaration)
        return function

    return declare if function is None else declare(function)


def declaration_of(function: Any) -> Declaration | None:
    """What its author has declared; None for nothing."""
    found: Declaration | None = getattr(function, _DECLARED, None)
    return found
