"""`distgrad simulate`"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from distgrad.cli import main

from .points import JOB


def test_each_schedule_is_predicted_and_one_is_picked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "points.toml").write_text(JOB)
    with pytest.raises(SystemExit) as ended:
        main(["simulate", str(tmp_path / "points.toml"), "--workers", "2", "--check", "--chart"])
    out, errors = capsys.readouterr()
    assert (ended.value.code, errors) == (0, "")
    for name in ("gpipe", "1f1b", "interleaved", "zero-bubble"):
        assert re.search(
            rf"^{name} +[\d.]+ ms +[\d.]+% +\d+ +[\d.]+ ms, idle [\d.]+%: predicted [+-][\d.]+%$", out, re.M
        )
        assert re.search(rf"^{name}:\n *w0 [FBW·]{{100}}\n *w1 [FBW·]{{100}}$", out, re.M)
    assert re.search(r"^pick: --set pipeline.schedule=\"[\w-]+\"$", out, re.M)
