"""The protocol on all graphs at once, in every order of messages."""

from __future__ import annotations

import random
from typing import Any

import pytest

from distgrad.errors import DistgradError
from distgrad.graph.edges import EdgeId

from .model import KINDS, Graph, Search, Tapes, Witness, drawn, frozen, graphs
from .mutants import MUTANTS, named
from .open_graphs import (
    Chosen,
    Decide,
    Event,
    Flush,
    OpenProcess,
    OpenSearch,
    Receive,
    Sent,
    Settle,
    without_what_is_told,
)

ROOTS = ["a", "ab", "abc"]
LINE = ("ab", "bc")  # c hears of a through b only


def search(roots: str, edges: int, **options: Any) -> OpenSearch:
    found = OpenSearch(roots, edges, **options)
    found.run()
    assert found.ends["complete"]
    return found


# ---- every graph, every order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("roots", ROOTS)
def test_every_pass_over_up_to_three_edges_ends_rightly(roots: str) -> None:
    search(roots, 3)


@pytest.mark.slow
@pytest.mark.parametrize("roots", ROOTS)
def test_every_pass_over_up_to_four_edges_ends_rightly(roots: str) -> None:
    search(roots, 4)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("roots", ROOTS)
def test_every_pass_over_up_to_six_edges_ends_rightly(roots: str) -> None:
    """All graphs of up to three processes with six edges between them, in every order of messages and work."""
    search(roots, 6)


@pytest.mark.slow
@pytest.mark.parametrize("roots", ["a", "abcd"])
def test_every_pass_over_three_edges_between_four_processes_ends_rightly(roots: str) -> None:
    search(roots, 3, processes="abcd")


@pytest.mark.slow
@pytest.mark.parametrize("roots", ROOTS)
def test_messages_of_a_link_may_overtake_one_another(roots: str) -> None:
    search(roots, 3, in_order=False)


@pytest.mark.parametrize(("roots", "neighbours"), [("a", ()), ("abc", ()), ("ab", LINE)])
def test_an_abort_at_any_moment_reaches_everybody(roots: str, neighbours: tuple[str, ...]) -> None:
    assert search(roots, 2, aborts=True, neighbours=neighbours).ends["abort"]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("neighbours", [(), LINE, ("ab", "ac"), ("ac", "bc")], ids=" ".join)
@pytest.mark.parametrize("roots", ROOTS)
def test_an_abort_at_any_moment_of_passes_over_five_edges_reaches_everybody(
    roots: str, neighbours: tuple[str, ...]
) -> None:
    assert search(roots, 5, aborts=True, neighbours=neighbours).ends["abort"]


def test_only_edges_that_wait_for_each_other_are_left_out() -> None:
    """With two edges there is no circle that the mark could reach."""
    assert set(search("abc", 2).ends) == {"complete"}


# ---- what a graph does is among what the search visits ---------------------------------------------------------------


def test_a_process_of_any_graph_can_be_lived_by_an_open_one() -> None:
    """Whatever a process of a given graph sends, an open one sends as well when the same edges are chosen."""
    rng = random.Random(5)
    some = [drawn(rng, values, crossing=values - 1) for values in (3, 4, 5) for _ in range(8)]
    phases = set()
    for graph in [*graphs(2, KINDS, most=2), *some]:
        found = Search(graph)
        found.run()
        phases |= found.phases
        tapes = Tapes(graph)
        for (name, _), history in found._histories.items():
            lived_alike(graph, Witness(tapes, name, found._dead), history)
    assert phases == {"run", "mark", "resume", "done"}


def lived_alike(graph: Graph, witness: Witness, history: tuple[Any, ...]) -> None:
    process = OpenProcess(witness.name, graph.initiator, rooted=True)
    for event in history:
        before = witness.part._participant.phase
        sent = witness.live(event)
        decides = witness.part._participant.phase is not before
        assert plain(all_that_follows(process, translated(event, witness, sent, decides), sent)) == plain(sent)
        assert not process.impossible


def translated(event: Any, witness: Witness, sent: Sent, decides: bool) -> Event:
    """An event of `model.py` as one of an open process."""
    if event[0] == "initiate":
        return Receive(
            witness.name, ("initiate", tuple(to for to, message in sent if message[0] == "start")), gone(sent)
        )
    if event[0] == "message":
        return Receive(event[1], with_ones(event[2]), gone(sent))
    if not decides:
        return Settle()
    told = tuple(to for to, message in sent if message[0] == "resume" or message[:1] + message[2:] == ("mark", True))
    return Decide(int(witness.part.outcome is None), (witness.name, *told))


def all_that_follows(process: OpenProcess, event: Event, sent: Sent) -> Sent:
    """What an open process sends until it has no work, if what leaves is to be what is in `sent`."""
    found = process.live(event)
    while process.part.inbox:
        found += process.live(Receive(process.me, frozen(process.part.inbox[0][1]), gone(sent)))
    if process.part._outbox:
        found += process.live(Flush(any(message[0] == "gradients" and message[3] for _, message in sent)))
    return found


def gone(sent: Sent) -> Chosen:
    """The edges over which gradients, or marks, have left."""
    over = [(to, message[1]) for to, message in sent if message[0] in ("gradients", "mark")]
    return tuple((to, entry[0] if isinstance(entry[0], EdgeId) else entry) for to, edges in over for entry in edges)


def with_ones(message: Any) -> Any:
    """A message in which all values are one."""
    if message[0] == "start":
        return ("start", ((0, 1.0),))
    if message[0] == "gradients":
        return ("gradients", tuple((name, 1.0) for name, _ in message[1]), *message[2:])
    return message


def plain(sent: Sent) -> list[Any]:
    return sorted((to, repr(without_what_is_told(with_ones(message)))) for to, message in sent)


# ---- the search can fail ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "method", "mutant"),
    # The search leaves out what is None and not marked, so it cannot tell whether that is sent.
    [entry for entry in MUTANTS if entry[1] != "_leave"],
    ids=named,
)
def test_a_broken_protocol_is_noticed(kind: Any, method: str, mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, method, mutant)
    with pytest.raises((AssertionError, DistgradError, ValueError)):
        for roots in ROOTS:
            search(roots, 3)
