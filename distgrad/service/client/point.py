"""What is asked of a function at one place: its value there and its derivatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np

from distgrad.autograd import tree
from distgrad.autograd.tensor import Tensor
from distgrad.errors import ConfigError, DistgradError, SessionLost
from distgrad.wire import decode_value, pb
from distgrad.wire.dtypes import Array
from distgrad.wire.values import encode_into

from .question import Asker, Question, asked

# With respect to which arguments: the name or position of one, or a tuple of such.
Wrt = int | str | Sequence[int | str]


def _several(wrt: Wrt) -> Sequence[int | str]:
    """What `wrt` chooses, as a sequence. Raises ConfigError for what chooses nothing."""
    several = (wrt,) if isinstance(wrt, int | str) else wrt
    if not isinstance(several, tuple | list) or not all(isinstance(argument, int | str) for argument in several):
        raise ConfigError(f"wrt={wrt!r}, expected the name or position of an argument, or a tuple of such")
    return several


class Signature:
    """Names of a function's arguments; the server is asked for them when they are first needed.

    Arguments:
        names: asks for them, for at most so many seconds; unless it has them already.
        known: whether it has.
    """

    def __init__(
        self, function: str, names: Callable[[float | None], Sequence[str]], known: Callable[[], bool]
    ) -> None:
        self._function = function
        self._names = names
        self._known = known

    def missing(self, wrt: Wrt) -> bool:
        """Whether the server has yet to be asked which arguments `wrt` chooses."""
        if self._known():
            return False
        return not all(isinstance(argument, str) for argument in _several(wrt))

    def learn(self, timeout: float | None) -> None:
        """Asks the server. Raises as `Point` says."""
        self._names(timeout)

    def name(self, argument: int | str) -> str:
        """The name of the argument at a position. Raises ConfigError when there is none."""
        if isinstance(argument, str):
            return argument
        names = self._names(None)
        if not -len(names) <= argument < len(names):
            raise ConfigError(f"{self._function} has {len(names)} arguments, and none at position {argument}")
        return names[argument]

    def chosen(self, wrt: Wrt) -> list[str]:
        """The names of the arguments that `wrt` chooses."""
        return [self.name(argument) for argument in _several(wrt)]

    def by_name(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments as a dict. Raises TypeError when there is one too many, or twice."""
        names = self._names(None)
        if len(args) > len(names):
            raise TypeError(f"{self._function} takes {len(names)} arguments ({', '.join(names)}), got {len(args)}")
        positional = dict(zip(names, args, strict=False))
        if twice := positional.keys() & kwargs.keys():
            raise TypeError(f"{self._function} got its argument {min(twice)!r} twice")
        return {**positional, **kwargs}


class Point:
    """A served function at given arguments. Nothing is computed before something is asked for.

    Every method that asks has a twin for coroutines, `vjp_async` beside `vjp`; and these parameters, by name:

        wrt: with respect to which arguments: the name or position of one (the first, when not given), for which the
            method takes and returns a tree like the argument; or a tuple of such, for tuples of such trees.
        timeout: seconds until the answer must be there; by default the client's.

    Raises, wherever it asks:
        RequestError: the arguments, or vectors, do not fit the function; nothing was computed.
        RemoteError: the function raised.
        GradientError: it has no such derivative there.
        NotServed, PermissionDenied, ResourceExhausted, Timeout, LinkError: as they say.
    """

    def __init__(
        self, asker: Asker, function: str, signature: Signature, arguments: Any, timeout: float | None
    ) -> None:
        """
        Arguments:
            arguments: a tuple by position, or a dict by name.
        """
        self.asker = asker
        self.function = function
        self.arguments = arguments
        self.signature = signature
        self._timeout = timeout

    def with_timeout(self, timeout: float | None) -> Point:
        """The same, with another timeout for what does not say one."""
        return Point(self.asker, self.function, self.signature, self.arguments, timeout)

    # ---- values and first derivatives

    def _value(self, *, timeout: float | None = None) -> Question[Any]:
        """The function's value: a tree of arrays."""
        return self._ask("evaluate", pb.EvaluateRequest(), [], _read("value"), timeout)

    def _value_and_grad(self, *, wrt: Wrt = 0, timeout: float | None = None) -> Question[tuple[Any, Any]]:
        """The value, one real scalar, and its gradient: by a complex argument the direction of steepest ascent."""
        body = pb.ValueAndGradientRequest(with_respect_to=self.signature.chosen(wrt))

        def read(answer: Any, arrays: list[Array]) -> tuple[Any, Any]:
            return decode_value(answer.value, arrays), self._like(wrt, decode_value(answer.gradient, arrays))

        return self._ask("value_and_gradient", body, [], read, timeout)

    def _grad(self, *, wrt: Wrt = 0, timeout: float | None = None) -> Question[Any]:
        """The gradient of a function that returns one real scalar."""
        both = self._value_and_grad(wrt=wrt, timeout=timeout)
        return Question(
            self.function, both.kind, both.body, both.arrays, lambda *answer: both.read(*answer)[1], both.timeout
        )

    def _vjps(self, cotangents: Sequence[Any], *, wrt: Wrt = 0, timeout: float | None = None) -> Question[list[Any]]:
        """Products of several cotangents, trees like the value, with the Jacobian; in one request."""
        arrays: list[Array] = []
        body = pb.VjpRequest(with_respect_to=self.signature.chosen(wrt))
        _encode_all(body.cotangents, cotangents, arrays, "cotangents")

        def read(answer: Any, arrays: list[Array]) -> list[Any]:
            return [self._like(wrt, decode_value(gradient, arrays)) for gradient in answer.gradients]

        return self._ask("vjp", body, arrays, read, timeout)

    def _vjp(self, cotangent: Any, *, wrt: Wrt = 0, timeout: float | None = None) -> Question[Any]:
        """The product of a cotangent, a tree like the value, with the Jacobian: reverse mode."""
        return _only(self._vjps([cotangent], wrt=wrt, timeout=timeout))

    def _jvps(self, tangents: Sequence[Any], *, wrt: Wrt = 0, timeout: float | None = None) -> Question[list[Any]]:
        """Products of the Jacobian with several tangents, trees like the argument; in one request."""
        arrays: list[Array] = []
        body = pb.JvpRequest()
        _encode_all(body.tangents, [self._by_name(wrt, t) for t in tangents], arrays, "tangents")
        return self._ask("jvp", body, arrays, _read_all("tangents"), timeout)

    def _jvp(self, tangent: Any, *, wrt: Wrt = 0, timeout: float | None = None) -> Question[Any]:
        """The product of the Jacobian with a tangent, a tree like the argument: forward mode."""
        return _only(self._jvps([tangent], wrt=wrt, timeout=timeout))

    # ---- second derivatives

    def _hvps(
        self,
        vectors: Sequence[Any],
        *,
        cotangents: Sequence[Any] = (),
        wrt: Wrt = 0,
        timeout: float | None = None,
    ) -> Question[list[Any]]:
        """Products of the Hessian with several vectors, trees like the argument; in one request.

        Arguments:
            cotangents: for functions whose value is not one real scalar: trees like the value, one for all vectors or
                one for each. The Hessian is then that of the inner product of cotangent and value.
        """
        arrays: list[Array] = []
        body = pb.HvpRequest(with_respect_to=self.signature.chosen(wrt))
        _encode_all(body.vectors, [self._by_name(wrt, v) for v in vectors], arrays, "vectors")
        _encode_all(body.cotangents, cotangents, arrays, "cotangents")

        def read(answer: Any, arrays: list[Array]) -> list[Any]:
            return [self._like(wrt, decode_value(product, arrays)) for product in answer.products]

        return self._ask("hvp", body, arrays, read, timeout)

    def _hvp(self, vector: Any, *, cotangent: Any = None, wrt: Wrt = 0, timeout: float | None = None) -> Question[Any]:
        """The product of the Hessian with a vector, a tree like the argument. See `hvps` for `cotangent`."""
        cotangents = [] if cotangent is None else [cotangent]
        return _only(self._hvps([vector], cotangents=cotangents, wrt=wrt, timeout=timeout))

    def _second_jvps(
        self, pairs: Sequence[tuple[Any, Any]], *, wrt: Wrt = 0, timeout: float | None = None
    ) -> Question[list[Any]]:
        """Second derivatives of the value along both tangents of each pair; in one request."""
        arrays: list[Array] = []
        body = pb.JvpRequest()
        _encode_all(body.tangents, [self._by_name(wrt, first) for first, _ in pairs], arrays, "tangents")
        _encode_all(
            body.second_tangents, [self._by_name(wrt, second) for _, second in pairs], arrays, "second_tangents"
        )
        return self._ask("jvp", body, arrays, _read_all("tangents"), timeout)

    # ---- whole matrices

    def _jacobian(self, *, wrt: Wrt = 0, timeout: float | None = None) -> Question[Any]:
        """All partial derivatives: for a value of shape s and an argument of shape t an array of shape s + t; for
        trees, a tree like the value with a tree like the argument in place of each array."""
        body = pb.JacobianRequest(with_respect_to=self.signature.chosen(wrt), with_value=True)

        def read(answer: Any, arrays: list[Array]) -> Any:
            value = decode_value(answer.value, arrays)
            return self._blocks(value, decode_value(answer.jacobian, arrays), wrt)

        return self._ask("jacobian", body, [], read, timeout)

    def _hessian(self, *, wrt: Wrt = 0, timeout: float | None = None) -> Question[Any]:
        """All second derivatives of a function that returns one real scalar: for an argument of shape t an array of
        shape t + t; for trees, a tree like the argument with such a tree in place of each array."""
        names = self.signature.chosen(wrt)

        def read(answer: Any, arrays: list[Array]) -> Any:
            rows = decode_value(answer.hessian, arrays)
            by_name = self._named_arguments()
            return self._like(wrt, {name: self._blocks(by_name[name], rows[name], wrt) for name in names})

        return self._ask("hessian", pb.HessianRequest(with_respect_to=names), [], read, timeout)

    value, value_async = asked(_value)
    value_and_grad, value_and_grad_async = asked(_value_and_grad)
    grad, grad_async = asked(_grad)
    vjp, vjp_async = asked(_vjp)
    vjps, vjps_async = asked(_vjps)
    jvp, jvp_async = asked(_jvp)
    jvps, jvps_async = asked(_jvps)
    hvp, hvp_async = asked(_hvp)
    hvps, hvps_async = asked(_hvps)
    second_jvps, second_jvps_async = asked(_second_jvps)
    jacobian, jacobian_async = asked(_jacobian)
    hessian, hessian_async = asked(_hessian)

    def _linearize(self, *, wrt: Wrt = 0, timeout: float | None = None) -> Question[Linearization]:
        """Runs the function once and keeps its linearisation on the server."""
        body = pb.LinearizeRequest(with_respect_to=self.signature.chosen(wrt))

        def read(answer: Any, arrays: list[Array]) -> Linearization:
            return Linearization(self, answer.session, decode_value(answer.value, arrays), answer.lease_seconds)

        return self._ask("linearize", body, [], read, timeout)

    linearize, linearize_async = asked(_linearize)

    # ---- requests

    def _ask(
        self, kind: str, body: Any, arrays: list[Array], read: Callable[[Any, list[Array]], Any], timeout: float | None
    ) -> Question[Any]:
        self._place(body, arrays)
        return Question(self.function, kind, body, arrays, read, self._timeout if timeout is None else timeout)

    def _place(self, body: Any, arrays: list[Array]) -> None:
        """Writes into a request where the function is to be taken."""
        body.function = self.function
        encode_into(body.arguments, plain(self.arguments), arrays, "arguments")

    def _named_arguments(self) -> dict[str, Any]:
        if isinstance(self.arguments, dict):
            return self.arguments
        return self.signature.by_name(self.arguments, {})

    def _by_name(self, wrt: Wrt, vector: Any) -> dict[str, Any]:
        """A tree like the argument, or a tuple of such, as the server wants it."""
        names = self.signature.chosen(wrt)
        if isinstance(wrt, int | str):
            return {names[0]: vector}
        if not isinstance(vector, tuple | list) or len(vector) != len(names):
            raise ConfigError(f"with wrt={wrt!r} {self.function} takes tuples of {len(names)}, found {vector!r}")
        return dict(zip(names, vector, strict=True))

    def _like(self, wrt: Wrt, by_name: dict[str, Any]) -> Any:
        """What the server returned by name, in the shape of `wrt`."""
        found = [by_name[name] for name in self.signature.chosen(wrt)]
        return found[0] if isinstance(wrt, int | str) else tuple(found)

    def _blocks(self, like: Any, blocks: Any, wrt: Wrt) -> Any:
        """Blocks of a matrix: in the place of each leaf of `like`, what is by name there in the shape of `wrt`."""
        names, children = tree.children(like)
        if not names and not (isinstance(like, dict | list | tuple) or like is None):
            return self._like(wrt, blocks)
        if isinstance(like, dict):
            return {name: self._blocks(child, blocks[name], wrt) for name, child in zip(names, children, strict=True)}
        if like is None:
            return None
        return type(like)(self._blocks(child, blocks[name], wrt) for name, child in zip(names, children, strict=True))

    def __repr__(self) -> str:
        return f"<Point of {self.function}>"


class Linearization(Point):
    """A function at a place where the server has run it: derivatives there cost what they cost beyond the value.

        with f.linearize(x) as at_x:
            print(at_x.value, at_x.vjp(w), at_x.jvp(v))

    The server forgets it at the end of the block, and when it was not used for `lease` seconds; what is asked for after
    that raises SessionLost.

    Attributes:
        value: the function's value.
        lease: in seconds.
    """

    value: Any  # what is a method of a point that was not evaluated
    value_async: Any = None

    def __init__(self, point: Point, session: str, value: Any, lease: float) -> None:
        super().__init__(point.asker, point.function, point.signature, point.arguments, point._timeout)
        self.session = session
        self.value = value
        self.lease = lease

    def _place(self, body: Any, arrays: list[Array]) -> None:
        body.session = self.session

    def _close(self, *, timeout: float | None = None) -> Question[None]:
        """Lets the server forget it."""
        body = pb.CloseSessionRequest(session=self.session)
        return Question(self.function, "close_session", body, [], lambda *_: None, timeout or self._timeout)

    close, close_async = asked(_close)

    def __enter__(self) -> Linearization:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(SessionLost if error is None else DistgradError):  # whose lease ends it, in any case
            self.close()

    async def __aenter__(self) -> Linearization:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(SessionLost if error is None else DistgradError):
            await self.close_async()

    def __repr__(self) -> str:
        return f"<Linearization of {self.function}, session {self.session[:8]}>"


def plain(value: Any) -> Any:
    """A tree without tensors: arrays in their place."""
    if isinstance(value, Tensor):
        return np.asarray(value.data)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)([plain(item) for item in value])
    return value


def _encode_all(field: Any, trees: Sequence[Any], arrays: list[Array], name: str) -> None:
    for index, one in enumerate(trees):
        encode_into(field.add(), plain(one), arrays, f"{name}[{index}]")


def _only(question: Question[list[Any]]) -> Question[Any]:
    """The same question, whose answer has one item."""
    return Question(
        question.function,
        question.kind,
        question.body,
        question.arrays,
        lambda *answer: question.read(*answer)[0],
        question.timeout,
    )


def _read(field: str) -> Callable[[Any, list[Array]], Any]:
    return lambda answer, arrays: decode_value(getattr(answer, field), arrays)


def _read_all(field: str) -> Callable[[Any, list[Array]], list[Any]]:
    return lambda answer, arrays: [decode_value(value, arrays) for value in getattr(answer, field)]
