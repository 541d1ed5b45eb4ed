"""Messages of a backward pass, as `protocol.py` knows them, <-> the frames that carry them."""

from __future__ import annotations

from typing import Any

from distgrad.wire import decode_value, edge_to_pb, encode_into, encode_value, pb

from .edges import edge_from_wire
from .protocol import Acknowledgement, Gradients, Mark, Message, Resume, Start


def message_to_pb(message: Message, header: pb.Pass) -> tuple[Any, list[Any]]:
    """The body of the frame, and its arrays. Every message that may be a process's first brings the header along."""
    arrays: list[Any] = []
    body: Any
    match message:
        case Start(seeds):
            body = pb.Start(header=header)
            body.seeds.extend(encode_value(seed, arrays, "gradient") for _, seed in sorted(seeds.items()))
        case Gradients(gradients, acknowledged, last):
            body = pb.Gradients(header=header, completion=_completion(acknowledged), last=last)
            for edge, gradient in gradients:
                entry = body.gradients.add(edge=edge_to_pb(edge))
                encode_into(entry.gradient, gradient, arrays, edge)
        case Mark(reached, begin):
            body = pb.Mark(header=header, reached=[edge_to_pb(edge) for edge in reached], begin=begin)
        case Resume():
            body = pb.Resume(header=header)
        case Acknowledgement():
            body = pb.PassAck(context=header.context.id, path=header.path, completion=_completion(message))
    return body, arrays


def message_from_pb(body: Any, arrays: list[Any], process: str) -> Message:
    """The message of a frame that came to `process`. Raises WireError when it is malformed."""
    match body:
        case pb.Start():
            positions = [root.position for root in roots_of(body.header, process)]
            seeds = [decode_value(seed, arrays) for seed in body.seeds]
            return Start(dict(zip(positions, seeds, strict=True)))
        case pb.Gradients():
            gradients = [(edge_from_wire(g.edge), decode_value(g.gradient, arrays)) for g in body.gradients]
            return Gradients(gradients, _acknowledgement(body), body.last)
        case pb.Mark():
            return Mark([edge_from_wire(edge) for edge in body.reached], body.begin)
        case pb.PassAck():
            return _acknowledgement(body) or Acknowledgement(0)
        case _:
            return Resume()


def roots_of(header: pb.Pass, process: str) -> list[pb.Root]:
    """The roots that are values of calls of that process, by position."""
    tables = [table.roots for table in header.roots if table.process == process]
    return sorted((root for roots in tables for root in roots), key=lambda root: root.position)


def _completion(message: Acknowledgement | None) -> pb.Completion | None:
    if message is None:
        return None
    return pb.Completion(count=message.count, waiting=message.waiting, met=message.met, finds=message.finds)


def _acknowledgement(body: Any) -> Acknowledgement | None:
    """What a frame says of completed messages."""
    if not body.HasField("completion"):
        return None
    completion = body.completion
    return Acknowledgement(completion.count, completion.waiting, tuple(completion.met), tuple(completion.finds))
