"""Contexts that end while something of theirs is still under way. What happens is defined, and nothing is left."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from distgrad.errors import ContextClosed, RemoteError, Timeout, WorkerLost

from .aftermath import assert_survivors_serve
from .gates import DEADLINE
from .moments import SEED, X
from .world import World, world


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    """Three workers, with shard a on w0, b on w1 and c on w2."""
    with world("w0", "w1", "w2") as found:
        for shard, worker in zip("abc", ("w0", "w1", "w2"), strict=True):
            found.place(shard, worker)
        yield found


@pytest.fixture(autouse=True)
def _nothing_is_left(shared: World) -> Iterator[None]:
    """After every test all processes have let go of everything, and work as before."""
    yield
    shared.gate.let_all_go()
    assert_survivors_serve(shared, "a", "b", "c")


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Begins `work` in a thread; the function returned waits for what it returned or raised."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def wait() -> Any:
        thread.join(DEADLINE)
        assert outcome, "it still runs"
        return outcome[0]

    return wait


# ---- release ---------------------------------------------------------------------------------------------------------


def test_release_during_a_backward_ends_it_with_an_error_that_says_so(shared: World) -> None:
    a, b, c = map(shared.driver.shard, "abc")
    context = shared.driver.context()

    def work() -> None:
        with context:
            context.backward(c.forward(b.stop_backward(a.forward(X))), SEED)

    working = in_thread(work)
    visitor = shared.gate.reached()
    context.close()
    error = working()
    assert isinstance(error, ContextClosed)
    assert context.id in str(error)
    # w1 is still in the middle of it.
    visitor.let_go()


def test_a_call_in_a_released_context_is_refused_and_leaves_nothing(shared: World) -> None:
    a, b = map(shared.driver.shard, "ab")
    context = shared.driver.context()
    with context:
        value = a.forward(X)
        value.wait()
        context.close()
        for late in (lambda: b.forward(value), lambda: b.forward(X), lambda: value.get()):
            with pytest.raises(ContextClosed, match="released"):
                late()
    with pytest.raises(ContextClosed, match="released"):
        b.forward(value)


def test_a_call_that_is_made_by_a_method_after_the_release_is_refused_and_leaves_nothing(shared: World) -> None:
    a, b = map(shared.driver.shard, "ab")
    context = shared.driver.context()
    with context:
        a.stop_then_chain(X, b, "forward")
        visitor = shared.gate.reached()
        context.close()
    # Now w0 calls w1, in a context that is no more.
    visitor.let_go()
    shared.assert_nothing_is_held()


def test_a_context_left_by_an_exception_does_not_wait_for_its_calls(shared: World) -> None:
    b, c = map(shared.driver.shard, "bc")
    with pytest.raises(KeyError), shared.driver.context():
        c.forward(b.stop_forward(X))
        visitor = shared.gate.reached()
        raise KeyError
    visitor.let_go()


def test_what_was_fetched_outlives_its_context(shared: World) -> None:
    a = shared.driver.shard("a")
    with shared.driver.context():
        fetched = a.forward(X).get()
    np.testing.assert_array_equal(fetched.numpy(), X * 2)


# ---- cancelling ------------------------------------------------------------------------------------------------------


def test_cancelling_a_coroutine_ends_its_backward_everywhere(shared: World) -> None:
    a, b, c = map(shared.driver.shard, "abc")

    async def work() -> None:
        async with shared.driver.context() as context:
            await context.backward_async(c.forward(b.stop_backward(a.forward(X))), SEED)

    async def cancel() -> None:
        working = asyncio.create_task(work())
        visitor = await asyncio.to_thread(shared.gate.reached)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        visitor.let_go()

    asyncio.run(asyncio.wait_for(cancel(), DEADLINE))


def test_cancelling_a_wait_ends_the_wait_and_not_the_call(shared: World) -> None:
    b = shared.driver.shard("b")

    async def work() -> None:
        async with shared.driver.context():
            value = b.stop_forward(X)
            visitor = await asyncio.to_thread(shared.gate.reached)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(value.get_async(), 0.01)
            visitor.let_go()
            np.testing.assert_array_equal((await value).numpy(), X * 2)

    asyncio.run(asyncio.wait_for(work(), DEADLINE))


# ---- timeouts --------------------------------------------------------------------------------------------------------


def test_a_timeout_of_get_ends_the_wait_and_not_the_call(shared: World) -> None:
    b = shared.driver.shard("b")
    with shared.driver.context():
        value = b.stop_forward(X)
        visitor = shared.gate.reached()
        for wait in (value.get, value.numpy, value.wait):
            with pytest.raises(Timeout, match=r"b\.stop_forward on w1 did not come within 0\.01 s"):
                wait(timeout=0.01)
        visitor.let_go()
        np.testing.assert_array_equal(value.get(DEADLINE).numpy(), X * 2)


def test_a_timeout_of_a_call_within_a_call_reaches_the_driver(shared: World) -> None:
    a, b = map(shared.driver.shard, "ab")
    with pytest.raises(Timeout, match=r"b\.stop_forward on w1 did not come within"), shared.driver.context():
        value = a.chain_for(X, b, "stop_forward", 0.2)
        visitor = shared.gate.reached()
        value.get()
    visitor.let_go()


def test_a_timeout_of_backward_ends_the_pass_everywhere_and_the_context_serves_on(shared: World) -> None:
    a, b, c = map(shared.driver.shard, "abc")
    with shared.driver.context() as context:
        h = a.forward(X)
        for timeout in (0.3, 3.0):
            loss = c.forward(b.stop_backward(h))
            loss.wait()
            with pytest.raises(Timeout, match=r"backward of context .* did not end within"):
                context.backward(loss, SEED, timeout=timeout)
            shared.wait_for(
                lambda: not any("passes" in held for held in shared.holdings().values()), lambda: "the end of the pass"
            )
            if shared.gate.is_reached():  # a busy machine may not get there in the shorter time
                break
        visitor = shared.gate.reached()
        visitor.let_go()  # now, as whoever has not heard of the end would go on with the pass, and free more
        # Nothing of the pass has become a gradient, and other passes over what it has not freed are none the worse.
        assert context.gradients(a) == {}
        context.backward(c.forward(h), SEED)
        np.testing.assert_array_equal(context.gradients(a)["weight"], X.T @ SEED * 2)


def test_a_timeout_while_a_root_is_still_being_computed_begins_no_pass(shared: World) -> None:
    b, c = map(shared.driver.shard, "bc")
    with pytest.raises(Timeout), shared.driver.context() as context:
        loss = c.forward(b.stop_forward(X))
        visitor = shared.gate.reached()
        context.backward(loss, SEED, timeout=0.05)
    visitor.let_go()


# ---- errors in the middle --------------------------------------------------------------------------------------------


def test_a_failed_call_leaves_nothing_behind_anywhere(shared: World) -> None:
    a, b, c = map(shared.driver.shard, "abc")
    with pytest.raises(RemoteError, match=r"b\.fail on w1 raised ValueError: as asked"), shared.driver.context():
        c.forward(b.fail(a.forward(X))).get()


def test_a_failing_backward_leaves_nothing_behind_anywhere(shared: World) -> None:
    a, b, c = map(shared.driver.shard, "abc")
    with pytest.raises(RemoteError, match=r"w1 raised ValueError: as asked"), shared.driver.context() as context:
        context.backward(c.forward(b.fail_backward(a.forward(X))), SEED)


# ---- the driver ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["stop_forward", "stop_backward"])
def test_a_driver_that_closes_in_the_middle_releases_everything(shared: World, moment: str) -> None:
    driver = shared.client(f"closing-{moment}")
    a, b, c = map(driver.shard, "abc")

    def work() -> None:
        for _ in range(2):
            driver.context().__enter__()  # and stays open
            c.forward(a.forward(X)).wait()
        with driver.context() as context:
            context.backward(c.forward(getattr(b, moment)(a.forward(X))), SEED)

    working = in_thread(work)
    visitor = shared.gate.reached()
    driver.close()
    error = working()
    # Whatever comes first: that this process has closed, or what others say to that.
    assert isinstance(error, ContextClosed | WorkerLost)
    assert re.search(f"closing-{moment} (has closed|has left|ends)", str(error))
    # What it called runs to its end, and then there is nothing for it to be kept for.
    visitor.let_go()
    shared.assert_nothing_is_held()
