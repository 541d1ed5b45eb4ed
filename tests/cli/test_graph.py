"""`distgrad graph`"""

from __future__ import annotations

from pathlib import Path

import pytest

from distgrad.cli import main

from .points import JOB


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["4 calls on 4 processes", "w0  stem.forward", "-> 1 on w1  float32[8, 8]", "w2  head.loss"]),
        (("--dot", "--workers", "1"), ["digraph {", 'label="w0"', '"0" -> "1" [label="float32[8, 8]"]']),
    ],
    ids=["list", "dot"],
)
def test_the_graph_of_a_job_shows_its_calls_and_what_crosses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], expected: list[str]
) -> None:
    (tmp_path / "points.toml").write_text(JOB)
    with pytest.raises(SystemExit) as ended:
        main(["graph", str(tmp_path / "points.toml"), *options])
    out, errors = capsys.readouterr()
    assert (ended.value.code, errors) == (0, "")
    assert [text for text in expected if text not in out] == []
