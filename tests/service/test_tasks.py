"""Clients take turns, whatever one of them piles up."""

from __future__ import annotations

from typing import Any

from distgrad.service.payloads import InlinePayload
from distgrad.service.requests import Request
from distgrad.service.tasks import Client, FairQueue, Task


def task(number: int, client: str, *, process: Any = None, batch: Any = None) -> Task:
    made = Client(client, "client", client)
    return Task(number, made, "f", Request("vjp", None, 0), InlinePayload(b""), batch, process, "", lambda _: None, 0.0)


def numbers(queue: FairQueue, process: Any = "p") -> list[int]:
    found = []
    while (taken := queue.take(process)) is not None:
        found.append(taken.number)
    return found


def filled(*tasks: Task) -> FairQueue:
    queue = FairQueue()
    for each in tasks:
        queue.put(each)
    return queue


def test_clients_take_turns_and_their_own_requests_stay_in_order() -> None:
    queue = filled(*[task(k, "busy") for k in range(1, 5)], task(5, "other"), task(6, "third"), task(7, "other"))
    assert numbers(queue) == [1, 5, 6, 2, 7, 3, 4]
    assert queue.waiting == 0


def test_a_request_bound_to_a_process_waits_for_that_one() -> None:
    queue = filled(task(1, "a", process="q"), task(2, "a"), task(3, "b", process="p"))
    assert numbers(queue) == [2, 3]
    assert numbers(queue, "q") == [1]


def test_what_has_to_run_again_goes_first() -> None:
    queue = filled(task(1, "a"), task(2, "a"))
    again = queue.take("p")
    assert again is not None
    queue.put(again, first=True)
    assert numbers(queue) == [1, 2]


def test_requests_alike_are_taken_from_the_fronts_of_all_lines() -> None:
    queue = filled(
        task(1, "a", batch="k"), task(2, "a", batch="k"), task(3, "b", batch="k"), task(4, "b"), task(5, "b", batch="k")
    )
    assert [t.number for t in queue.take_alike("k", 10)] == [1, 3, 2]
    assert numbers(queue) == [4, 5]
    assert filled(task(1, "a", batch="k"), task(2, "a", batch="k")).take_alike("k", 1)[0].number == 1


def test_a_request_that_is_given_up_leaves() -> None:
    gone = task(2, "a")
    queue = filled(task(1, "a"), gone, task(3, "b"))
    queue.remove(gone)
    assert (numbers(queue), queue.waiting) == ([1, 3], 0)


def test_what_was_bound_to_a_lost_process_is_taken_out() -> None:
    queue = filled(task(1, "a", process="q"), task(2, "a"), task(3, "b", process="q"))
    assert [t.number for t in queue.bound_to("q")] == [1, 3]
    assert [t.number for t in queue.all()] == [2]
