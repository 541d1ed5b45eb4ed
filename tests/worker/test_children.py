"""Processes that never outlive the one that started them, and what is said over their pipes."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from distgrad.cluster.directory import run_directory
from distgrad.errors import RemoteError
from distgrad.worker.child import failure
from distgrad.worker.children import Child, Children, Event
from tests.processes import DEADLINE, eventually, is_gone, with_environment

from .puppeteer import puppet_orders

PUPPET = "tests.worker.puppet"


class Theatre:
    """Children that are puppets, and what is heard of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.heard: queue.SimpleQueue[tuple[Child, Event]] = queue.SimpleQueue()
        self.children = Children(directory, 3, lambda child, event: self.heard.put((child, event)))

    def start(self, kind: str) -> Child:
        child = self.children.start(kind, PUPPET)
        child.begin(puppet_orders(kind, self.directory))
        return child

    def ready(self, kind: str) -> tuple[Child, Event]:
        child = self.start(kind)
        return child, self.hear("ready")

    def hear(self, expected: str) -> Event:
        _, event = self.heard.get(timeout=DEADLINE)
        assert event["event"] == expected
        return event


@pytest.fixture
def theatre() -> Iterator[Theatre]:
    with run_directory() as directory:
        theatre = Theatre(directory)
        with theatre.children:
            yield theatre


def test_a_child_gets_its_orders_by_a_pipe_and_nobody_else_can_read_them(theatre: Theatre) -> None:
    child, event = theatre.ready("obedient")
    assert event["token"] == "a-secret"
    shown = Path(f"/proc/{child.pid}/cmdline").read_bytes() + Path(f"/proc/{child.pid}/environ").read_bytes()
    assert b"a-secret" not in shown


def test_a_childs_arguments_say_who_it_is(theatre: Theatre) -> None:
    child, _ = theatre.ready("obedient")
    assert Path(f"/proc/{child.pid}/cmdline").read_bytes().endswith(b"\0-m\0tests.worker.puppet\0obedient\0")


def test_threads_for_matrix_products_are_set_before_numpy_is_imported(theatre: Theatre) -> None:
    _, event = theatre.ready("obedient")
    assert event["blas_threads"] == "3"


def test_what_a_program_prints_is_in_the_log_and_not_among_the_events(theatre: Theatre) -> None:
    child, event = theatre.ready("talkative")
    assert event == {"event": "ready", "read": ""}
    assert child.wait(DEADLINE)
    assert child.tail() == "printed by the program\ncomplained by the program"


def test_the_tail_of_a_log_is_its_last_lines(theatre: Theatre) -> None:
    child, _ = theatre.ready("talkative")
    child.wait(DEADLINE)
    child.log.write_text("\n".join(map(str, range(10_000))))
    assert child.tail(lines=3) == "9997\n9998\n9999"


def test_a_log_that_is_there_is_continued_and_its_tail_is_what_was_added(theatre: Theatre) -> None:
    log = theatre.directory / "talkative.log"
    log.write_text("of an earlier run\n")
    child, _ = theatre.ready("talkative")
    child.wait(DEADLINE)
    assert log.read_text().startswith("of an earlier run\n")
    assert child.tail() == "printed by the program\ncomplained by the program"


def test_a_child_that_is_told_to_stop_ends_in_order(theatre: Theatre) -> None:
    child, _ = theatre.ready("obedient")
    child.ask_to_stop()
    assert theatre.hear("exited")["code"] == 0
    assert child.ending == "exited with code 0"


def test_a_child_that_is_killed_in_the_middle_of_a_line_is_heard_to_have_ended(theatre: Theatre) -> None:
    child = theatre.start("torn")
    theatre.hear("exited")
    assert child.ending == "was killed by signal 9 (SIGKILL)"


def test_a_child_that_is_killed_is_heard_to_have_ended_though_it_has_forked_and_nothing_of_it_is_left(
    theatre: Theatre,
) -> None:
    child, event = theatre.ready("forking")
    child.signal(signal.SIGKILL)
    theatre.hear("exited")
    assert eventually(lambda: is_gone(event["forked"]))


def test_a_child_without_orders_ends_when_none_will_come(theatre: Theatre) -> None:
    child = theatre.children.start("obedient", PUPPET)
    child.ask_to_stop()
    assert child.wait(DEADLINE)
    assert child.ending == "exited with code 0"


@pytest.mark.parametrize(
    ("kind", "stopped", "ending"),
    [
        ("deaf", False, "was killed by signal 15 (SIGTERM)"),
        ("stuck", False, "was killed by signal 15 (SIGTERM)"),
        ("obedient", True, "was killed by signal 9 (SIGKILL)"),
    ],
)
def test_a_child_that_does_not_end_is_made_to(theatre: Theatre, kind: str, stopped: bool, ending: str) -> None:
    child, _ = theatre.ready(kind)
    if stopped:
        os.kill(child.pid, signal.SIGSTOP)
    theatre.children.stop()
    assert child.ending == ending


def test_the_end_of_a_child_is_heard_of_with_its_signal(theatre: Theatre) -> None:
    child, _ = theatre.ready("obedient")
    os.kill(child.pid, signal.SIGKILL)
    assert theatre.hear("exited")["code"] == -signal.SIGKILL
    assert child.ending == "was killed by signal 9 (SIGKILL)"
    assert child.ended.is_set()


def test_a_signal_to_a_child_that_has_ended_hits_nobody(theatre: Theatre) -> None:
    child, _ = theatre.ready("talkative")
    assert child.wait(DEADLINE)
    child.signal(signal.SIGKILL)
    child.ask_to_stop()
    assert child.ending == "exited with code 0"


def test_a_childs_bug_is_in_its_log(theatre: Theatre) -> None:
    child = theatre.start("crashing")
    assert theatre.hear("exited")["code"] == 1
    assert child.tail(lines=1) == "RuntimeError: a bug"


def test_a_failure_comes_back_as_the_exception_it_was() -> None:
    event = {"error": {"kind": "RemoteError", "worker": "w0", "method": "worker", "original": "KeyError"}}
    error = failure(event)
    assert isinstance(error, RemoteError)
    assert (error.worker, error.original) == ("w0", "KeyError")


def test_a_child_outlives_the_thread_that_asked_for_it(theatre: Theatre) -> None:
    started: list[Child] = []
    thread = threading.Thread(target=lambda: started.append(theatre.start("obedient")))
    thread.start()
    thread.join()
    theatre.hear("ready")
    os.kill(started[0].pid, 0)
    started[0].ask_to_stop()
    assert started[0].wait(DEADLINE)
    assert started[0].ending == "exited with code 0"


def test_children_are_gone_when_their_parent_is_killed_and_so_is_its_directory() -> None:
    before = set(os.listdir(tempfile.gettempdir()))
    command = [sys.executable, "-m", "tests.worker.puppeteer", "obedient", "deaf", "stuck"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 3
        assert not any(is_gone(pid) for pid in pids)
        parent.kill()
    assert eventually(lambda: all(is_gone(pid) for pid in pids))
    assert set(os.listdir(tempfile.gettempdir())) == before


def test_what_a_child_has_forked_is_gone_too_when_the_parent_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.worker.puppeteer", "forking"]
    mark = {"OF_THIS_TEST": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | mark) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert len(with_environment(f"OF_THIS_TEST={tmp_path}")) == 3
        parent.kill()
    assert eventually(lambda: not with_environment(f"OF_THIS_TEST={tmp_path}"))


def test_what_a_child_has_forked_is_gone_too_when_it_fails_and_nobody_waits_for_it(tmp_path: Path) -> None:
    """As when the parent was killed, and the loss of its link was seen first."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-m", PUPPET, "failing"], start_new_session=True, **pipes) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(asdict(puppet_orders("failing", tmp_path)), default=str).encode() + b"\n")
        child.stdin.flush()
        forked = json.loads(child.stdout.readline())["forked"]
        assert child.wait(DEADLINE) == 1
    assert eventually(lambda: is_gone(forked))
