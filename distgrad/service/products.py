"""What requests ask for: the value of a function and products of its derivatives, computed by the local engine.

A function is differentiated as one of a single argument, the dict of the chosen arguments: gradients and tangents are
then dicts by argument, which is what requests and responses have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

import distgrad.autograd.ops as ops
from distgrad.autograd import jacobians, tape, tree
from distgrad.autograd.modes import no_grad
from distgrad.autograd.reverse import arrived, pullback_of, vjp
from distgrad.autograd.tensor import Tensor
from distgrad.autograd.transforms import grad, jvp, linearize, value_and_grad
from distgrad.errors import GradientError

from .failures import Code, Refused, does_not_fit
from .specs import Violation, as_exact, check, outline_of

Value = Any
# What a response has beside its value, by field; a list for a repeated field.
Answer = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """What a request asks, decoded.

    Attributes:
        body: its name on a stream.
        cotangents, tangents, second_tangents, vectors: as in the request.
        with_value: whether to return what is known besides.
    """

    body: str
    cotangents: Sequence[Value] = ()
    tangents: Sequence[Value] = ()
    second_tangents: Sequence[Value] = ()
    vectors: Sequence[Value] = ()
    with_value: bool = False


@dataclass
class Evaluation:
    """A function at a point.

    Attributes:
        call: the function, of keyword arguments.
        arguments: all of them.
        names: of those to differentiate by.
    """

    call: Callable[..., Value]
    arguments: dict[str, Value]
    names: Sequence[str]
    _chosen: dict[str, Value] = field(init=False)

    def __post_init__(self) -> None:
        self._chosen = {name: self.arguments[name] for name in self.names}

    def answer(self, question: Question) -> Answer:
        """Raises GradientError when there is no such derivative, Refused when a cotangent does not fit the value."""
        with tape.outermost():
            return _ANSWERS[question.body](self, question)

    def but(self, names: Sequence[str]) -> Evaluation:
        """The same by fewer arguments."""
        return Evaluation(self.call, self.arguments, names)

    # ---- what may be known already; a session keeps it

    @cached_property
    def _pulled(self) -> tuple[Value, Callable[..., Any]]:
        """Value and pullback."""
        return vjp(self._of, self._chosen)

    @property
    def _pulled_alone(self) -> tuple[Value, Callable[..., Any]]:
        """The pullback, and what has the shapes and dtypes of a value that nobody wants."""
        return pullback_of(self._of, self._chosen)

    @cached_property
    def _pushed(self) -> Callable[..., Value]:
        """The linear map of tangents: the transpose of the pullback."""
        value, pullback = self._pulled
        transposed: Callable[..., Value] = vjp(pullback, tree.map(np.zeros_like, value))[1]
        return transposed

    @cached_property
    def _linear_gradient(self) -> tuple[Value, Callable[..., Value]]:
        """The gradient, and its derivative as a linear map."""
        return linearize(grad(self._of), self._chosen)

    def _of(self, chosen: dict[str, Value]) -> Value:
        return self.call(**{**self.arguments, **chosen})

    # ---- answers

    def value(self, question: Question) -> Answer:
        with no_grad():
            return {"value": _plain(arrived(self.call(**self.arguments)))}

    def value_and_gradient(self, question: Question) -> Answer:
        value, gradient = value_and_grad(self._of)(self._chosen)
        return {"value": value, "gradient": gradient}

    def vjp(self, question: Question) -> Answer:
        value, pullback = self._pulled if question.with_value else self._pulled_alone
        _check_cotangents(value, question.cotangents)
        gradients = [pullback(cotangent)[0] for cotangent in question.cotangents]
        return {"gradients": gradients, **_with(question, value=value)}

    def jvp(self, question: Question) -> Answer:
        if question.second_tangents:
            return self._second_derivatives(question)
        found = [self._jvp(tangent) for tangent in question.tangents]
        return {"tangents": [tangent for _, tangent in found], **_with(question, value=found[0][0])}

    def _jvp(self, tangent: dict[str, Value]) -> tuple[Value, Value]:
        moving = {name: self.arguments[name] for name in self.names if name in tangent}
        if not moving:
            value = self.value(Question("evaluate"))["value"]
            return value, tree.map(np.zeros_like, value)
        value, derivative = jvp(self._of, (moving,), ({name: tangent[name] for name in moving},))
        return value, derivative

    def _second_derivatives(self, question: Question) -> Answer:
        found = []
        value = None
        for first, second in zip(question.tangents, question.second_tangents, strict=True):
            first, second = self._filled(first), self._filled(second)

            def along_first(chosen: dict[str, Value], first: dict[str, Value] = first) -> tuple[Value, Value]:
                value, derivative = jvp(self._of, (chosen,), (first,))
                return value, derivative

            (value, _), (_, derivative) = jvp(along_first, (self._chosen,), (second,))
            found.append(derivative)
        return {"tangents": found, **_with(question, value=value)}

    def _filled(self, tangent: dict[str, Value]) -> dict[str, Value]:
        """A tangent with zeros for the arguments that do not move."""
        return {name: tangent.get(name, tree.map(np.zeros_like, self._chosen[name])) for name in self.names}

    def jacobian(self, question: Question) -> Answer:
        found = jacobians.jacobian(self._of)(self._chosen)
        return {"jacobian": found, **(self.value(question) if question.with_value else {})}

    def hessian(self, question: Question) -> Answer:
        found = jacobians.hessian(self._of)(self._chosen)
        return {"hessian": found, **(self.value(question) if question.with_value else {})}

    def hvp(self, question: Question) -> Answer:
        pairs = self._with_cotangents(question)
        products = []
        for evaluation, vector in pairs:
            products.append(jacobians.hvp(evaluation._of)(evaluation._chosen, vector))
        known: Answer = {}
        if question.with_value:
            known = self.value(question)
            if len(question.cotangents) < 2:
                known["gradient"] = grad(pairs[0][0]._of)(self._chosen)
        return {"products": products, **known}

    def _with_cotangents(self, question: Question) -> list[tuple[Evaluation, Value]]:
        """For each vector the real function whose Hessian is meant: cotangent · value, where there are cotangents."""
        if not question.cotangents:
            return [(self, vector) for vector in question.vectors]
        cotangents = list(question.cotangents)
        if len(cotangents) == 1:
            cotangents *= len(question.vectors)
        return [(self._paired(c), vector) for c, vector in zip(cotangents, question.vectors, strict=True)]

    def _paired(self, cotangent: Value) -> Evaluation:
        """The function cotangent · value."""

        def paired(**arguments: Value) -> Value:
            value = arrived(self.call(**arguments))
            _check_cotangents(value, [cotangent])
            total: Any = 0.0
            for c, y in zip(tree.flatten(cotangent)[0], tree.flatten(value)[0], strict=True):
                total = total + ops.sum(ops.real(np.conj(c) * y))
            return total

        return Evaluation(paired, self.arguments, self.names)


class Linearisation(Evaluation):
    """What a session keeps: later answers use what earlier ones have found, and the function does not run again.

    A Jacobian is put together from products, a Hessian from those of the gradient's derivative.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._by_fewer: dict[tuple[str, ...], Linearisation] = {}
        self._endings = tape.Endings()

    def answer(self, question: Question) -> Answer:
        with tape.within(self._endings):
            return _ANSWERS[question.body](self, question)

    def close(self) -> None:
        """Forgets what is kept, in other processes too."""
        for fewer in self._by_fewer.values():
            fewer.close()
        self._endings.close()

    def but(self, names: Sequence[str]) -> Evaluation:
        """The same by fewer arguments: linearised when it is first asked for, and kept too."""
        key = tuple(names)
        if key == tuple(self.names):
            return self
        if key not in self._by_fewer:
            self._by_fewer[key] = Linearisation(self.call, self.arguments, names)
        return self._by_fewer[key]

    @property
    def _pulled_alone(self) -> tuple[Value, Callable[..., Any]]:
        return self._pulled

    def value(self, question: Question) -> Answer:
        return {"value": self._pulled[0]}

    def value_and_gradient(self, question: Question) -> Answer:
        value, pullback = self._pulled
        return {"value": value, "gradient": pullback(_one_for(value))[0]}

    def _jvp(self, tangent: dict[str, Value]) -> tuple[Value, Value]:
        return self._pulled[0], self._pushed((self._filled(tangent),))[0]

    def jacobian(self, question: Question) -> Answer:
        value, pullback = self._pulled
        found = jacobians.jacobian_of_pullback(pullback, value)
        return {"jacobian": found, **_with(question, value=value)}

    def hessian(self, question: Question) -> Answer:
        _one_for(self._pulled[0])
        gradient, product = self._linear_gradient
        # The Hessian is symmetric, so products with it are those with its transpose.
        found = jacobians.jacobian_of_pullback(lambda vector: (product(vector),), gradient)
        return {"hessian": found, **_with(question, value=self._pulled[0])}

    def hvp(self, question: Question) -> Answer:
        if question.cotangents:
            return super().hvp(question)
        _one_for(self._pulled[0])
        gradient, product = self._linear_gradient
        known = _with(question, value=self._pulled[0], gradient=gradient)
        return {"products": [product(vector) for vector in question.vectors], **known}


_ANSWERS: dict[str, Callable[[Evaluation, Question], Answer]] = {
    "evaluate": lambda evaluation, question: evaluation.value(question),
    "value_and_gradient": lambda evaluation, question: evaluation.value_and_gradient(question),
    "vjp": lambda evaluation, question: evaluation.vjp(question),
    "jvp": lambda evaluation, question: evaluation.jvp(question),
    "jacobian": lambda evaluation, question: evaluation.jacobian(question),
    "hessian": lambda evaluation, question: evaluation.hessian(question),
    "hvp": lambda evaluation, question: evaluation.hvp(question),
    "linearize": lambda evaluation, question: evaluation.value(question),
}


def _with(question: Question, **known: Value) -> Answer:
    return known if question.with_value else {}


def _plain(value: Value) -> Value:
    """A result without tensors, but for those of a batch, which go on as they are."""
    return tree.map(lambda leaf: leaf.data if type(leaf) is Tensor else leaf, value)


def _one_for(value: Value) -> Value:
    """The cotangent 1 of a value that must be one real scalar."""
    if not hasattr(value, "dtype") or np.prod(value.shape) != 1 or value.dtype.kind != "f":
        raise GradientError(f"the value is {outline_of(value)}, and only one real scalar has a gradient; use Vjp")
    return np.ones(value.shape, value.dtype)


def _check_cotangents(value: Value, cotangents: Sequence[Value]) -> None:
    """Raises Refused when a cotangent is not like the value."""
    if all(_alike(value, cotangent) for cotangent in cotangents):
        return
    spec = as_exact(outline_of(value))
    violations: list[Violation] = []
    for k, cotangent in enumerate(cotangents):
        violations += check(spec, outline_of(cotangent), {}, f"cotangents[{k}]")
    if violations:
        raise does_not_fit(violations, "")


def _alike(value: Value, cotangent: Value) -> bool:
    """Whether both are arrays of one kind: the usual case, told quickly."""
    return (
        type(cotangent) is np.ndarray
        and isinstance(value, np.ndarray | Tensor)
        and value.dtype == cotangent.dtype
        and value.shape == cotangent.shape
    )


def explained(error: GradientError, function: str) -> Refused:
    """The answer when there is no such derivative."""
    return Refused(Code.FAILED_PRECONDITION, f"{function}: {error}")
