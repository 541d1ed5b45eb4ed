"""Whatever arrives, the process stays up, the link is closed with a reason or the sender told, and nothing grows."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distgrad.errors import WireError
from distgrad.transport.health import Health
from distgrad.transport.lanes import LanesByAddress
from distgrad.wire import decode_frame, decode_value, pb
from tests.any_message import messages
from tests.processes import eventually

from .moments import SEED, X
from .strangers import (
    OWNER,
    CoordinatorTarget,
    Stranger,
    Target,
    WorkerTarget,
    hello,
    mutated,
    numbered,
    ordinary_frames,
)
from .world import world

FRAMES = ordinary_frames()


def kind(frame: bytes) -> str:
    """What a frame is, for the name of a test."""
    whole = pb.Frame.FromString(frame)
    body = whole.WhichOneof("body")
    return whole.request.WhichOneof("body") if body == "request" else body


# ---- whole frames that mean anything ---------------------------------------------------------------------------------

NAMES = ["", "a", "w0", "stranger", "driver", f"{OWNER}/0", f"{OWNER}/inference", "forward", "float64", "SGD"]
TEXTS = st.sampled_from(NAMES) | st.text(max_size=5)
whole_frames = messages(pb.Frame.DESCRIPTOR, TEXTS).map(lambda frame: frame.SerializeToString())
broken_frames = st.builds(mutated, st.sampled_from(FRAMES), st.integers(0, 2**32))
frames = st.sampled_from(FRAMES) | broken_frames | whole_frames | st.binary(max_size=200)


# ---- decoders --------------------------------------------------------------------------------------------------------


@given(broken_frames | whole_frames | st.binary(max_size=200))
def test_the_decoder_of_frames_refuses_with_a_wire_error_or_gives_what_fits(data: bytes) -> None:
    try:
        frame, arrays = decode_frame(data)
    except WireError:
        return
    assert [list(header.shape) for header in frame.arrays] == [list(array.shape) for array in arrays]
    assert sum(array.nbytes for array in arrays) <= len(data) * max(len(arrays), 1)


@given(messages(pb.Value.DESCRIPTOR, TEXTS))
def test_the_decoder_of_values_refuses_with_a_wire_error_or_gives_data(value: Any) -> None:
    with contextlib.suppress(WireError):
        decode_value(value, [np.zeros(3), np.zeros((), np.int64)])


# ---- processes -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[WorkerTarget, CoordinatorTarget])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("here"))  # a coordinator writes checkpoints where it is told to
        target = request.param()
        yield target
        target.close()


def test_every_message_has_somebody_who_takes_it() -> None:
    by_links = {"hello", "welcome", "goodbye", "heartbeat", "chunk", "request", "reply"}
    taken: set[type] = set()
    for kind in (WorkerTarget, CoordinatorTarget):
        target = kind()
        taken |= target.process.messages.keys() | target.process.requests.keys()
        target.close()
    bodies = [kind.DESCRIPTOR.oneofs_by_name["body"] for kind in (pb.Frame, pb.Request)]
    others = {field.message_type.name for body in bodies for field in body.fields if field.name not in by_links}
    assert {kind.DESCRIPTOR.name for kind in taken} == others


def check(target: Target, sent: list[bytes], role: int, renumbered: bool) -> None:
    reason = target.visit(list(numbered(sent)) if renumbered else sent, role)
    assert "internal error" not in reason
    target.assert_unharmed()


strangers = given(st.lists(frames, min_size=1, max_size=4), st.sampled_from([1, 2, 3]), st.booleans())


@settings(max_examples=150)
@strangers
def test_a_process_survives_strangers(target: Target, sent: list[bytes], role: int, renumbered: bool) -> None:
    check(target, sent, role, renumbered)


@pytest.mark.slow
@settings(max_examples=800)
@strangers
def test_a_process_survives_very_many_strangers(target: Target, sent: list[bytes], role: int, renumbered: bool) -> None:
    check(target, sent, role, renumbered)


@pytest.mark.parametrize("frame", FRAMES, ids=kind)
def test_a_process_survives_each_kind_of_frame_from_a_stranger_and_broken_ones(target: Target, frame: bytes) -> None:
    rng = random.Random(0)
    for role in (pb.ROLE_CLIENT, pb.ROLE_WORKER, pb.ROLE_COORDINATOR):
        check(target, [frame], role, True)
        for _ in range(4):
            check(target, [mutated(frame, rng.randrange(2**32))], role, True)


@given(st.integers(0, 2**32), st.lists(frames, max_size=2))
def test_a_process_survives_broken_handshakes(target: Target, seed: int, sent: list[bytes]) -> None:
    target.knock([mutated(hello(target.settings), seed), *sent])
    target.assert_unharmed()


@given(whole_frames | st.binary(max_size=200), st.lists(frames, max_size=2))
def test_a_process_survives_what_is_no_handshake(target: Target, first: bytes, sent: list[bytes]) -> None:
    target.knock([first, *sent])
    target.assert_unharmed()


# ---- a worker in a process of its own --------------------------------------------------------------------------------


def test_strangers_with_and_without_a_token_leave_nothing_on_a_worker() -> None:
    rng = random.Random(1)
    with world("w0") as found:
        a = found.place("a", "w0")
        address = found.driver.membership.members["w0"].address
        lanes = LanesByAddress(found.settings, Health())

        def visit(first: bytes, frame: bytes) -> str:
            """What the worker says at the end."""
            stranger = Stranger([first, frame])
            lanes.open(address, stranger)
            return stranger.end()

        def visits() -> None:
            for frame in FRAMES:
                assert visit(hello(found.settings), mutated(frame, rng.randrange(2**32)))
                assert "the token is not accepted" in visit(hello(replace(found.settings, token="wrong")), frame)

        visits()
        before = found.driver.counts("w0")
        for _ in range(2):
            visits()
        with found.driver.context() as context:
            context.backward(a.forward(X), SEED)
            np.testing.assert_array_equal(context.gradients(a)["weight"], X.T @ SEED)
        lanes.close()

        def grown() -> list[str]:
            """What there is more of than before. Contexts are not looked at: one whose owner nobody knows is kept for a
            lease."""
            now = found.driver.counts("w0")
            limits = {what: before[what] for what in ("links", "descriptors", "shared_blocks", "system_threads")}
            limits["memory_bytes"] = before["memory_bytes"] + 2 * 2**20
            return [f"{what}: {now[what]}, {limit} allowed" for what, limit in limits.items() if now[what] > limit]

        assert eventually(lambda: not grown()), grown()  # threads end a while after their work
