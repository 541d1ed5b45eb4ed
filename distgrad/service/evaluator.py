"""What a process of the pool does with requests: decodes them, computes, makes responses. Knows nothing of sockets."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from distgrad.autograd import tree
from distgrad.autograd.vmap import vmap
from distgrad.errors import GradientError, WireError
from distgrad.wire import pb
from distgrad.wire.frames import Buffer

from .encoding import arrays_of, decoded_arguments, question_from, response
from .failures import Code, Refused, raised
from .functions import Served, ServedFunction
from .products import Answer, Evaluation, Linearisation, Question, explained
from .requests import bound
from .results import held_to
from .specs import converted


class Work(NamedTuple):
    """One request.

    Attributes:
        body: its name on a stream.
        message: without its payload.
    """

    body: str
    message: Any
    payload: memoryview


class Result(NamedTuple):
    """The response: its body's name, the message without its payload, and the payload's pieces and their size."""

    body: str
    message: Any
    pieces: Sequence[Buffer] = ()
    size: int = 0


class _Asked(NamedTuple):
    """A request decoded."""

    function: ServedFunction
    evaluation: Evaluation
    question: Question


def alike(works: Sequence[Work]) -> bool:
    """Whether several requests may be computed as one: all ask the same of one function, outside any session."""
    if len(works) < 2:
        return False
    first = works[0]
    if first.body in ("linearize", "close_session") or first.message.session:
        return False
    return all(
        work.body == first.body
        and work.message.function == first.message.function
        and getattr(work.message, "with_respect_to", ()) == getattr(first.message, "with_respect_to", ())
        and getattr(work.message, "with_value", False) == getattr(first.message, "with_value", False)
        for work in works
    )


class Evaluator:
    """Answers requests, one or several at a time.

    Attributes:
        sessions: linearisations that are kept, by session.
    """

    def __init__(self, served: Served, lease_seconds: float) -> None:
        self.sessions: dict[str, tuple[ServedFunction, Linearisation]] = {}
        self._served = served
        self._lease_seconds = lease_seconds

    def answer(self, work: Work) -> Result:
        """One response; whatever goes wrong is a failure in it."""
        return self._guarded(work, lambda: self._answer(work))

    def answer_together(self, works: Sequence[Work]) -> list[Result]:
        """The responses to requests that are alike, computed as one where that can be done."""
        try:
            return self._together([self._asked(work) for work in works])
        except (Exception, SystemExit):
            # Perhaps one of them alone: what is wrong, and with which, is found by taking them one by one.
            return [self.answer(work) for work in works]

    # ---- one

    def _answer(self, work: Work) -> Result:
        if work.body == "close_session":
            self._close(work.message.session)
            return Result("close_session", pb.CloseSessionResponse())
        if work.body == "linearize":
            return self._linearize(work)
        asked = self._asked(work)
        return Result(work.body, *response(work.body, asked.evaluation.answer(asked.question), {}))

    def _linearize(self, work: Work) -> Result:
        asked = self._asked(work, copy=True)
        kept = Linearisation(asked.evaluation.call, asked.evaluation.arguments, asked.evaluation.names)
        answer = kept.answer(asked.question)
        session = secrets.token_urlsafe(24)
        made = response("linearize", answer, {"session": session, "lease_seconds": self._lease_seconds})
        self.sessions[session] = asked.function, kept
        return Result("linearize", *made)

    def _close(self, session: str) -> None:
        if session in self.sessions:
            _, kept = self.sessions.pop(session)
            kept.close()

    def _asked(self, work: Work, copy: bool = False) -> _Asked:
        message = work.message
        try:
            arrays = arrays_of(message, work.payload)
            question = question_from(work.body, message, arrays)
            given = decoded_arguments(message, arrays) if message.HasField("arguments") else None
        except WireError as error:
            raise Refused(Code.INVALID_ARGUMENT, str(error)) from None
        if getattr(message, "session", "") and work.body != "linearize":
            function, kept = self._session(message.session)
            fewer = getattr(message, "with_respect_to", ())
            return _Asked(function, kept.but(fewer) if fewer else kept, question)
        function = self._function(message.function)
        sent = bound(function.description, given)
        if copy or function.keeps:  # beyond the request its memory is the client's again
            sent = tree.map(lambda leaf: leaf.copy() if hasattr(leaf, "dtype") else leaf, sent)
        arguments = {name: converted(function.description.takes[name], value) for name, value in sent.items()}
        # The server has put them into every request but Jvp, whose tangents say as much.
        names = list(getattr(message, "with_respect_to", ())) or _moving(question)
        call = held_to(function.description, function.call, arguments)
        return _Asked(function, Evaluation(call, arguments, names), question)

    def _function(self, name: str) -> ServedFunction:
        if name not in self._served.functions:
            raise Refused(Code.NOT_FOUND, f"there is no function {name!r}")
        return self._served.functions[name]

    def _session(self, session: str) -> tuple[ServedFunction, Linearisation]:
        if session not in self.sessions:
            raise Refused(Code.NOT_FOUND, "there is no such session: it was closed, or its lease has ended")
        return self.sessions[session]

    def _guarded(self, work: Work, answer: Callable[[], Result]) -> Result:
        name = getattr(work.message, "function", "") or "the session's function"
        try:
            with np.errstate(all="ignore"):  # NaN and infinities are values as others
                return answer()
        except Refused as refusal:
            return Result("failure", refusal.to_pb())
        except GradientError as error:
            return Result("failure", explained(error, name).to_pb())
        except WireError as error:
            message = f"{name} returned what cannot travel: {error}"
            told = pb.UserException(type="WireError", message=str(error))
            return Result("failure", Refused(Code.INTERNAL, message, exception=told).to_pb())
        except (Exception, SystemExit) as error:
            return Result("failure", raised(error, name, self._served.folders).to_pb())

    # ---- several at a time

    def _together(self, asked: Sequence[_Asked]) -> list[Result]:
        """One computation for all, by a new first axis. Raises when there is none."""
        first = asked[0]
        leaves, structure = [], None
        for each in asked:
            found, shape = tree.flatten((each.evaluation.arguments, _directions(each.question)))
            if structure is not None and shape != structure:
                raise GradientError("requests of different structure")
            leaves.append(found)
            structure = shape
        columns = list(zip(*leaves, strict=True))
        moving = [k for k, column in enumerate(columns) if not _fixed(column)]

        def one(*row: Any) -> Any:
            filled = list(leaves[0])
            for k, leaf in zip(moving, row, strict=True):
                filled[k] = leaf
            arguments, directions = tree.unflatten(structure, filled)  # type: ignore[arg-type]
            evaluation = Evaluation(first.evaluation.call, arguments, first.evaluation.names)
            return evaluation.answer(Question(first.question.body, with_value=first.question.with_value, **directions))

        with np.errstate(all="ignore"):
            answers = vmap(one)(*(np.stack(columns[k]) for k in moving))
        return [
            Result(first.question.body, *response(first.question.body, _row(answers, k), {})) for k in range(len(asked))
        ]


def _fixed(column: Sequence[Any]) -> bool:
    """Whether a leaf is the same in all requests and no array: a flag, a count, a text, a number of no dtype. Numbers
    that differ would have to become an array, whose dtype the results would take on."""
    first = column[0]
    if hasattr(first, "dtype"):
        return False
    if any(type(leaf) is not type(first) or repr(leaf) != repr(first) for leaf in column):  # -0.0 is not 0.0
        raise GradientError("requests that differ in more than their arrays")
    return True


def _moving(question: Question) -> list[str]:
    """The arguments that have tangents."""
    return list(dict.fromkeys(name for tangent in (*question.tangents, *question.second_tangents) for name in tangent))


def _directions(question: Question) -> dict[str, Any]:
    names = ("cotangents", "tangents", "second_tangents", "vectors")
    return {name: list(getattr(question, name)) for name in names}


def _row(answers: Answer, k: int) -> Answer:
    found: Answer = tree.map(lambda leaf: np.asarray(leaf)[k], answers)
    return found
