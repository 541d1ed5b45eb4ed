"""Messages of backward passes, on their way to this process's part of the pass they belong to."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from distgrad.errors import ContextClosed, DistgradError, WorkerLost
from distgrad.transport.interfaces import Link
from distgrad.wire import error_from_pb, error_to_pb, pb

from .backward import WEIGHTS, LocalPass, flood_abort
from .messages import message_from_pb
from .share import Share
from .waiting import Priority

if TYPE_CHECKING:
    from .process import Process


class Passes:
    """Finds or makes the part of this process in a pass, and ends it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.messages: dict[type, Callable[[Link, Any, list[Any]], None]] = {
            pb.Start: self._engaging,
            pb.Gradients: self._engaging,
            pb.Mark: self._engaging,
            pb.Resume: self._engaging,
            pb.PassAck: self._acknowledgement,
            pb.Finish: self._finished,
            pb.Abort: self._abort,
        }

    def _engaging(self, link: Link, body: Any, arrays: list[Any]) -> None:
        """A message that may be the first of its pass here, and that its sender waits to hear of."""
        header = body.header
        try:
            local = self._part(header, link.peer.name)
            if local is not None:
                local.receive(link.peer.name, message_from_pb(body, arrays, self._process.name))
        except (ContextClosed, WorkerLost) as error:
            # Ordinary: it crossed with the release of its context, or the link was lost and made again. The sender must
            # not wait for ever.
            abort = pb.Abort(context=header.context.id, path=header.path)
            abort.error.CopyFrom(error_to_pb(error, self._process.name, "backward"))
            self._process.send(link.peer.name, abort)
        except Exception as error:  # a malformed message ends its pass, not the link's thread
            self._refuse(header, error)

    def _part(self, header: pb.Pass, sender: str) -> LocalPass | None:
        """The part of this process in a pass, made at first contact. None for a pass that has ended here."""
        share = self._process.shares.meet(header.context)
        path = tuple(header.path)
        with share.lock:
            share.meet_peer(sender)
            if path in share.ended:
                return None
            local = share.passes.get(path)
            if local is None:
                local = share.passes[path] = LocalPass(self._process, share, header)
            return local

    def _refuse(self, header: pb.Pass, error: Exception) -> None:
        local = self._find(header.context.id, header.path)
        if local is not None:
            local.abort(error_from_pb(error_to_pb(error, self._process.name, "backward")))

    def _find(self, context: str, path: Sequence[int]) -> LocalPass | None:
        share = self._process.shares.get(context)
        return share.passes.get(tuple(path)) if share is not None else None

    def _acknowledgement(self, link: Link, body: pb.PassAck, arrays: list[Any]) -> None:
        local = self._find(body.context, body.path)
        if local is not None:
            local.receive(link.peer.name, message_from_pb(body, arrays, self._process.name))

    def _abort(self, link: Link, body: pb.Abort, arrays: list[Any]) -> None:
        """A pass has failed somewhere. It is told on from here once, also when this process had not met it yet."""
        share = self._process.shares.get(body.context)
        if share is None:
            return
        error, path = error_from_pb(body.error), tuple(body.path)
        with share.lock:
            local = share.passes.get(path)
            news = local is None and path not in share.ended
            if news:
                share.ended.add(path)
        if local is not None:
            local.abort(error)
        elif news:
            flood_abort(self._process, share, path, error)

    def abort(self, share: Share, error: DistgradError) -> None:
        """A process of the context is lost, and with it what passes may need."""
        for local in list(share.passes.values()):
            local.abort(error)

    def _finished(self, link: Link, body: pb.Finish, arrays: list[Any]) -> None:
        """A pass has ended everywhere, and found nothing here."""
        local = self._find(body.context, body.path)
        if local is not None:
            local.finish()

    def finish(self, link: Link, body: pb.Finish, arrays: list[Any], reply: Callable[..., None]) -> None:
        """A pass has ended everywhere: its gradients become part of the context."""
        local = self._find(body.context, body.path)
        if local is None:
            where = "/".join(map(str, body.path))
            raise ContextClosed(f"pass {where} of context {body.context} is not known here: it was aborted")
        if body.HasField("into"):
            self._add(local, body.into, link.peer.name, reply)
            return
        reply(local.finish())

    def _add(self, local: LocalPass, context: pb.ContextId, sender: str, reply: Callable[..., None]) -> None:
        """Adds what a pass has found to another context, in the compute slot, as it takes time, and in the order in
        which it was asked to."""

        def add() -> None:
            try:
                into = self._process.shares.meet(context)
                with into.lock:
                    into.meet_peer(sender)
                local.finish(into)
            except Exception as error:  # belongs to whoever asked
                reply(error)
            else:
                reply(pb.Finished())

        self._process.executor.submit(
            add, Priority.FILLER, context=contextvars.Context(), cancelled=reply, kind=WEIGHTS
        )
