"""UM-Bridge's protocol, version 1.0: served functions as models for its clients in many languages.

A model takes lists of numbers and returns lists of numbers, in JSON over HTTP. Every argument of a function that must
be given is an input, every array of its value an output; arrays are flattened in C order, a single number is a list of
one. The `config` of a request may hold lengths of axes that have symbols, and values of arguments that may be left out:

    {"n": 10, "bend": 0.7}

Source: UM-Bridge/umbridge, lib/README.md.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np

from distgrad.autograd import tree
from distgrad.wire import decode_value, encode_value, pb
from distgrad.wire.dtypes import dtype_named
from distgrad.wire.exchanges import BODIES
from distgrad.wire.frames import lay_out, split_message, view_arrays

from .access import Access, audit, require_role
from .answers import answer
from .desk import Desk
from .failures import Code, Refused
from .functions import Description
from .http_door import Answer, Head
from .payloads import Payloads
from .requests import Request
from .specs import Anything, ArraySpec, Tree, leaves
from .tasks import Client

# Clients in Python and C++ compare it with a number.
VERSION = 1.0

Array = np.ndarray[Any, Any]
# What a request asks, by the name of its endpoint.
Endpoint = Callable[["_Call"], Awaitable[dict[str, Any]]]


class Wrong(Exception):
    """A request cannot be answered.

    Attributes:
        kind: the protocol's name for that.
    """

    def __init__(self, kind: str, message: str, status: HTTPStatus, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.retry_after = retry_after


def error(message: str, kind: str = "InvalidInput") -> dict[str, Any]:
    """The protocol's JSON for an error."""
    return {"error": {"type": kind, "message": message}}


def _invalid(message: str) -> Wrong:
    return Wrong("InvalidInput", message, HTTPStatus.BAD_REQUEST)


# Failures of the service, by gRPC's codes -> the protocol's names, and HTTP's statuses.
_FAILURES: dict[int, tuple[str, HTTPStatus]] = {
    Code.INVALID_ARGUMENT: ("InvalidInput", HTTPStatus.BAD_REQUEST),
    Code.NOT_FOUND: ("ModelNotFound", HTTPStatus.BAD_REQUEST),
    Code.FAILED_PRECONDITION: ("UnsupportedFeature", HTTPStatus.BAD_REQUEST),
    Code.INTERNAL: ("InvalidOutput", HTTPStatus.INTERNAL_SERVER_ERROR),
    Code.RESOURCE_EXHAUSTED: ("Unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    Code.UNAVAILABLE: ("Unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    Code.UNAUTHENTICATED: ("Unauthorized", HTTPStatus.UNAUTHORIZED),
    Code.PERMISSION_DENIED: ("Unauthorized", HTTPStatus.FORBIDDEN),
}


def _refused(head: Head, name: str, refused: Refused) -> Wrong:
    """Writes down that a client, of that name as far as it is known, was refused; and what it is told."""
    audit(f"UM-Bridge{head.path}", head.peer, name, refused)
    return _translated(refused.code, str(refused), refused.retry_after)


def _translated(code: int, message: str, retry_after: float) -> Wrong:
    kind, status = _FAILURES.get(code, ("InvalidOutput", HTTPStatus.INTERNAL_SERVER_ERROR))
    return Wrong(kind, message, status, retry_after)


def _is_list_of_numbers(spec: Tree) -> bool:
    return isinstance(spec, ArraySpec) and spec.shape is not None and "complex" not in spec.dtype


def _told(wrong: Wrong) -> Answer:
    return Answer(wrong.status, error(str(wrong), wrong.kind), wrong.retry_after)


@dataclass(frozen=True)
class Model:
    """A function as a model.

    Attributes:
        inputs: names and specs of the arguments that must be given.
    """

    function: Description
    inputs: dict[str, ArraySpec]

    @classmethod
    def of(cls, function: Description) -> Model | None:
        """None when an argument that must be given is not a real array of known axes."""
        inputs = {name: spec for name, spec in function.takes.items() if name not in function.optional}
        return cls(function, inputs) if all(map(_is_list_of_numbers, inputs.values())) else None

    @property
    def support(self) -> dict[str, bool]:
        offered = self.function.products
        return {
            "Evaluate": True,
            "Gradient": pb.PRODUCT_VJP in offered,
            "ApplyJacobian": pb.PRODUCT_JVP in offered,
            "ApplyHessian": pb.PRODUCT_HVP in offered,
        }

    def input_name(self, index: Any, key: str) -> str:
        if not isinstance(index, int) or not 0 <= index < len(self.inputs):
            raise _invalid(f"Invalid {key} index! Expected between 0 and {len(self.inputs) - 1}, but got {index}")
        return list(self.inputs)[index]


class UmBridge:
    """Answers requests of the protocol from a server's functions.

    Attributes:
        max_bytes: of all arrays of a request.
    """

    def __init__(self, desk: Desk, access: Access) -> None:
        self._desk = desk
        self._access = access
        self.max_bytes = desk.settings.max_request_bytes
        self._payloads = Payloads()
        self._endpoints: dict[str, Endpoint] = {
            "/ModelInfo": _model_info,
            "/InputSizes": _input_sizes,
            "/OutputSizes": _output_sizes,
            "/Evaluate": _evaluate,
            "/Gradient": _gradient,
            "/ApplyJacobian": _apply_jacobian,
            "/ApplyHessian": _apply_hessian,
        }

    # ---- Service, for HttpDoor

    def admit(self, head: Head) -> Answer | None:
        try:
            self._client(head)
        except Wrong as wrong:
            return _told(wrong)
        return None

    async def serve(self, head: Head, content: Any) -> Answer:
        try:
            return Answer(HTTPStatus.OK, await self._answer(self._client(head), head, content))
        except Wrong as wrong:
            return _told(wrong)

    def _client(self, head: Head) -> Client:
        name = head.certificate_name
        try:
            client = self._access.client(head.authorization, head.certificate_name, head.peer)
            name = client.name
            require_role(client, admin=False)
        except Refused as refused:
            raise _refused(head, name, refused) from refused
        return client

    # ---- answers

    async def _answer(self, client: Client, head: Head, content: Any) -> dict[str, Any]:
        if head.path == "/Info" and head.method == "GET":
            return {"protocolVersion": VERSION, "models": sorted(self._models())}
        endpoint = self._endpoints.get(head.path)
        if endpoint is None or head.method != "POST":
            raise Wrong("UnsupportedFeature", f"there is no {head.method} {head.path}", HTTPStatus.NOT_FOUND)
        if not isinstance(content, dict) or not isinstance(content.get("name"), str):
            raise _invalid('expected a JSON object with the "name" of a model')
        models = self._models()
        if content["name"] not in models:
            message = f"Model {content['name']} not found! The following are available: {', '.join(sorted(models))}."
            raise Wrong("ModelNotFound", message, HTTPStatus.BAD_REQUEST)
        try:
            return await endpoint(_Call(self, client, models[content["name"]], content))
        except Refused as refused:
            raise _refused(head, client.name, refused) from refused

    def _models(self) -> dict[str, Model]:
        found = {name: Model.of(function) for name, function in self._desk.functions.items()}
        return {name: model for name, model in found.items() if model is not None}

    async def ask(self, client: Client, body: str, message: Any, arrays: list[Array]) -> tuple[Any, list[Array]]:
        """A response and its arrays. Raises Refused and Wrong."""
        pieces, _ = lay_out(message, arrays)
        payload = self._payloads.taken(memoryview(b"".join(pieces)))
        found = await answer(self._desk, client, Request(body, message, payload.size), payload)
        if isinstance(found, pb.Failure):
            raise _translated(found.code, found.message, found.retry_after)
        response, content, _ = split_message(BODIES[pb.StreamResponse][body], found)
        return response, view_arrays(response, content)

    def close(self) -> None:
        self._payloads.close()


class _Call:
    """One request about a model."""

    def __init__(self, bridge: UmBridge, client: Client, model: Model, content: Mapping[str, Any]) -> None:
        self._bridge = bridge
        self._client = client
        self.model = model
        self.content = content
        config = content.get("config")
        if config is not None and not isinstance(config, dict):
            raise _invalid('"config" must be an object')
        self._config: dict[str, Any] = config or {}

    # ---- what the request gives

    @property
    def lengths(self) -> dict[str, int]:
        """Of axes with symbols, as the config says."""
        takes = self.model.function.takes
        lengths = {name: n for name, n in self._config.items() if type(n) is int and name not in takes}
        for name, length in lengths.items():
            if length < 0:
                raise _invalid(f"the length {name} in the config is {length}")
        return lengths

    def zeros(self, spec: Tree, lengths: Mapping[str, int]) -> Any:
        """As `zeros`; no more than a request may hold."""
        return zeros(spec, lengths, self._bridge.max_bytes)

    def arguments(self) -> dict[str, Any]:
        """The inputs as arrays of their shapes, and what the config gives."""
        given = self.content.get("input")
        if not isinstance(given, list) or len(given) != len(self.model.inputs):
            raise _invalid(
                f"Number of input parameters does not match: expected {len(self.model.inputs)} "
                f"({', '.join(self.model.inputs)})"
            )
        lengths = self.lengths
        arguments = {
            name: shaped(numbers, spec, lengths, f"Input parameter {k} ({name})")
            for k, ((name, spec), numbers) in enumerate(zip(self.model.inputs.items(), given, strict=True))
        }
        optional = {name: value for name, value in self._config.items() if name in self.model.function.optional}
        return {**arguments, **optional}

    def chosen(self, key: str) -> str:
        """The name of the input at the index the request gives."""
        return self.model.input_name(self.content.get(key), key)

    def output_index(self, count: int) -> int:
        """The output that the request chooses of so many."""
        index = self.content.get("outWrt")
        if not isinstance(index, int) or not 0 <= index < count:
            raise _invalid(f"Invalid outWrt index! Expected between 0 and {count - 1}, but got {index}")
        return index

    def require(self, feature: str) -> None:
        if not self.model.support[feature]:
            raise Wrong("UnsupportedFeature", f"{feature} not supported by model!", HTTPStatus.BAD_REQUEST)

    def numbers(self, key: str, like: Array, what: str) -> Array:
        """A list of numbers of the request in the shape of an array."""
        return shaped(self.content.get(key), ArraySpec(str(like.dtype), like.shape), {}, what)

    # ---- asking

    async def ask(self, body: str, message: Any, arrays: list[Array], arguments: dict[str, Any]) -> tuple[Any, Any]:
        message.function = self.model.function.name
        message.arguments.CopyFrom(encode_value(arguments, arrays))
        return await self._bridge.ask(self._client, body, message, arrays)

    async def value(self, arguments: dict[str, Any]) -> Any:
        """The function's value: a tree of arrays."""
        answer, arrays = await self.ask("evaluate", pb.EvaluateRequest(), [], arguments)
        return decode_value(answer.value, arrays)

    async def cotangent(self, arguments: dict[str, Any]) -> Any:
        """`sens` in the place of the chosen output, zeros elsewhere."""
        outputs, structure = tree.flatten(await self._outline(arguments))
        index = self.output_index(len(outputs))
        sens = self.numbers("sens", np.asarray(outputs[index]), "Sensitivity vector sens")
        cotangents = [sens if k == index else np.zeros_like(output) for k, output in enumerate(outputs)]
        return tree.unflatten(structure, cotangents)

    async def _outline(self, arguments: dict[str, Any]) -> Any:
        """A tree like the value: as it is declared, or else the value itself."""
        lengths = self.lengths
        for name, spec in self.model.inputs.items():
            axes = zip(spec.shape or (), np.shape(arguments[name]), strict=True)
            lengths |= {axis: length for axis, length in axes if isinstance(axis, str)}
        declared = self.zeros(self.model.function.gives, lengths)
        return declared if declared is not None else await self.value(arguments)

    def output(self, arrays: Sequence[Any], index: int | None = None) -> Any:
        """Arrays as lists of numbers: all of them, or one."""
        chosen = arrays if index is None else [arrays[index]]
        lists = []
        for k, array in enumerate(chosen):
            flat = np.ravel(np.asarray(array))
            if flat.dtype.kind == "c" or not np.all(np.isfinite(flat)):
                what = "complex numbers" if flat.dtype.kind == "c" else "NaN or infinity"
                message = f"Output vector {k} holds {what}, which JSON has no way to say; ask over gRPC for it"
                raise Wrong("InvalidOutput", message, HTTPStatus.INTERNAL_SERVER_ERROR)
            lists.append(flat.tolist())
        return lists if index is None else lists[0]


def _flat(numbers: Any, dtype: np.dtype[Any], what: str) -> Array:
    """A list of numbers as an array of one axis, rounded only to floating-point dtypes. Raises Wrong; NumPy would take
    null and texts for numbers, and cut off fractions."""
    fits = isinstance(numbers, list) and set(map(type, numbers)) <= {int, float, bool}
    try:
        with np.errstate(over="raise", invalid="raise"):
            found = np.asarray(numbers if fits else [], dtype)
    except (ValueError, OverflowError, FloatingPointError):
        fits = False
    if not fits or (dtype.kind in "biu" and not np.array_equal(found, numbers)):
        raise _invalid(f"{what} must be a list of numbers that {dtype} can hold")
    return found


def shaped(numbers: Any, spec: ArraySpec, lengths: dict[str, int], what: str) -> Array:
    """A list of numbers as an array.

    Arguments:
        lengths: of symbols; one that is not known becomes known when no other of this array is.

    Raises:
        Wrong: it is no list of numbers that the array can hold, or of the wrong length.
    """
    flat = _flat(numbers, dtype_named(spec.dtype or "float64"), what)
    axes = spec.shape or ()
    unknown = [axis for axis in axes if isinstance(axis, str) and axis not in lengths]
    known = math.prod(lengths.get(axis, 1) if isinstance(axis, str) else axis for axis in axes)
    if len(unknown) == 1 and axes.count(unknown[0]) == 1 and known and len(flat) % known == 0:
        lengths[unknown[0]] = len(flat) // known
    elif unknown:
        raise _invalid(f"{what} is {spec}: give the lengths {', '.join(unknown)} in the config")
    shape = tuple(lengths[axis] if isinstance(axis, str) else axis for axis in axes)
    if math.prod(shape) != len(flat):
        raise _invalid(f"{what} has invalid length! Expected {math.prod(shape)} but got {len(flat)}.")
    return flat.reshape(shape)


def zeros(spec: Tree, lengths: Mapping[str, int], max_bytes: int) -> Any:
    """A tree of zeros as a spec wants it; None when it does not say all. Raises Wrong when it is larger than that."""
    size = 0
    for leaf in leaves(spec):
        if isinstance(leaf, Anything) or leaf.shape is None:
            return None
        if any(isinstance(axis, str) and axis not in lengths for axis in leaf.shape):
            return None
        size += math.prod(_shape(leaf, lengths)) * np.dtype(leaf.dtype or np.float64).itemsize
    if size > max_bytes:
        raise _invalid(f"arrays of these lengths have {size} bytes, {max_bytes} are allowed")
    return _zeros(spec, lengths)


def _shape(spec: ArraySpec, lengths: Mapping[str, int]) -> list[int]:
    return [lengths[axis] if isinstance(axis, str) else axis for axis in spec.shape or ()]


def _zeros(spec: Tree, lengths: Mapping[str, int]) -> Any:
    if isinstance(spec, dict):
        return {key: _zeros(item, lengths) for key, item in spec.items()}
    if isinstance(spec, list | tuple):
        return type(spec)(_zeros(item, lengths) for item in spec)
    return np.zeros(_shape(spec, lengths), spec.dtype or np.float64)


# ---- the endpoints ---------------------------------------------------------------------------------------------------


async def _model_info(call: _Call) -> dict[str, Any]:
    return {"support": call.model.support}


async def _input_sizes(call: _Call) -> dict[str, Any]:
    return {"inputSizes": [point.size for point in _somewhere(call).values()]}


async def _output_sizes(call: _Call) -> dict[str, Any]:
    value = call.zeros(call.model.function.gives, call.lengths)
    if value is None:
        value = await call.value(_somewhere(call))
    return {"outputSizes": [int(np.size(leaf)) for leaf in tree.flatten(value)[0]]}


def _somewhere(call: _Call) -> dict[str, Array]:
    """Inputs of the sizes that the model's declaration and the config say."""
    found = {}
    for name, spec in call.model.inputs.items():
        unknown = [axis for axis in spec.shape or () if isinstance(axis, str) and axis not in call.lengths]
        if unknown:
            example = ", ".join(f'"{axis}": 10' for axis in unknown)
            raise _invalid(f"{name} is {spec}, of any length: give one in the config, as {{{example}}}")
        found[name] = call.zeros(spec, call.lengths) + 1
    return found


async def _evaluate(call: _Call) -> dict[str, Any]:
    return {"output": call.output(tree.flatten(await call.value(call.arguments()))[0])}


async def _gradient(call: _Call) -> dict[str, Any]:
    call.require("Gradient")
    arguments, name = call.arguments(), call.chosen("inWrt")
    message = pb.VjpRequest(with_respect_to=[name])
    arrays: list[Array] = []
    message.cotangents.append(encode_value(await call.cotangent(arguments), arrays))
    answer, found = await call.ask("vjp", message, arrays, arguments)
    return {"output": call.output([decode_value(answer.gradients[0], found)[name]], 0)}


async def _apply_jacobian(call: _Call) -> dict[str, Any]:
    call.require("ApplyJacobian")
    arguments, name = call.arguments(), call.chosen("inWrt")
    message = pb.JvpRequest()
    arrays: list[Array] = []
    tangent = {name: call.numbers("vec", arguments[name], "Vector vec")}
    message.tangents.append(encode_value(tangent, arrays))
    answer, found = await call.ask("jvp", message, arrays, arguments)
    outputs = tree.flatten(decode_value(answer.tangents[0], found))[0]
    return {"output": call.output(outputs, call.output_index(len(outputs)))}


async def _apply_hessian(call: _Call) -> dict[str, Any]:
    """The derivative, along `vec` of the second input, of the gradient of sens · output by the first."""
    call.require("ApplyHessian")
    arguments, first, second = call.arguments(), call.chosen("inWrt1"), call.chosen("inWrt2")
    vector = {first: np.zeros_like(arguments[first])}
    vector[second] = call.numbers("vec", arguments[second], "Vector vec")
    message = pb.HvpRequest(with_respect_to=list(vector))
    arrays: list[Array] = []
    message.vectors.append(encode_value(vector, arrays))
    message.cotangents.append(encode_value(await call.cotangent(arguments), arrays))
    answer, found = await call.ask("hvp", message, arrays, arguments)
    return {"output": call.output([decode_value(answer.products[0], found)[first]], 0)}
