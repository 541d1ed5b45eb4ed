"""One request and its whole answer, for those who wait for one at a time."""

from __future__ import annotations

import asyncio

from distgrad.wire import pb
from distgrad.wire.exchanges import body_of

from .desk import Desk
from .payloads import BlockPayload, InlinePayload, elsewhere
from .requests import Request
from .tasks import Client, Outcome


async def answer(
    desk: Desk,
    client: Client,
    request: Request,
    payload: InlinePayload | BlockPayload,
    timeout: float | None = None,
) -> bytes | pb.Failure:
    """The bytes of a response, with its payload; or why there is none. Cancelled, it gives the request up.

    Raises:
        Refused: the request does not fit, or there is no room.
    """
    answered: asyncio.Future[bytes | pb.Failure] = asyncio.get_running_loop().create_future()

    def done(outcome: Outcome) -> None:
        found: bytes | pb.Failure
        if isinstance(outcome, pb.Failure):
            found = outcome
        else:  # read now, as the memory it is in is about to be used again
            found = b"".join((body_of(outcome.encoded)[0], elsewhere(outcome, payload)))
        if not answered.done():
            answered.set_result(found)

    task = desk.submit(client, request, payload, timeout, done)
    try:
        return await answered
    except asyncio.CancelledError:
        desk.give_up(task)
        raise
