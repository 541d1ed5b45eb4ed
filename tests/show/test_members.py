"""What an operator sees of a cluster."""

from __future__ import annotations

import pytest

from distgrad.coordinator.client import WorkerStatus
from distgrad.show.members import print_job, print_members
from distgrad.wire import pb

COUNTS = {"contexts": 2, "values": 5, "calls": 1, "links": 3, "memory_bytes": 64 * 2**20}


def test_a_worker_is_a_row_and_who_waits_for_whom_a_line_below(capsys: pytest.CaptureFixture[str]) -> None:
    print_members(
        [
            WorkerStatus("w0", "node1:7410", 12, 1, "alive", "", COUNTS),
            WorkerStatus("w1", "node2:7410", 13, 2, "alive", "", COUNTS, ("w1 waits for values of w0 (1)",)),
            WorkerStatus("w2", "node3:7410", 14, 3, "lost", "it fell silent", {}),
        ]
    )
    heading, first, second, third, waits = capsys.readouterr().out.splitlines()
    assert heading.split()[:4] == ["worker", "state", "process", "address"]
    assert first.split()[:5] == ["w0", "alive", "12", "node1:7410", "2"]
    assert second.split()[-2:] == ["64", "MiB"]
    assert third.split() == ["w2", "lost:", "it", "fell", "silent", "14", "node3:7410"]
    assert waits == "w1 waits for values of w0 (1)"


@pytest.mark.parametrize(
    ("job", "line"),
    [
        (None, "no job runs"),
        (
            pb.JobStatus(name="digits", trainer="t", step=3, steps=9, seconds=1.4, shards={"b": "w1", "a": "w0"}),
            "job digits: step 3 of 9 after 1 s, trained by t; shards: a on w0, b on w1",
        ),
        (pb.JobStatus(name="digits", trainer="t"), "job digits: step 0 of 0 after 0 s, trained by t; shards: none yet"),
    ],
)
def test_a_job_is_a_line(capsys: pytest.CaptureFixture[str], job: pb.JobStatus | None, line: str) -> None:
    print_job(job)
    assert capsys.readouterr().out == f"{line}\n"
