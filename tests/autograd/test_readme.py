"""What the engine's README shows runs and prints what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distgrad.autograd.primitive import PRIMITIVES
from tests.test_readme import BLOCK, PRINTS

PAGE = Path(__file__).parents[2] / "distgrad" / "autograd" / "README.md"


def test_the_example_of_a_primitive_runs_and_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = list(BLOCK.finditer(PAGE.read_text()))
    assert len(blocks) == 1
    code = blocks[0]["code"]
    try:
        with np.printoptions(precision=8):
            exec(compile(code, str(PAGE), "exec"), {})
    finally:
        PRIMITIVES.pop("softsign", None)
    assert capsys.readouterr().out.splitlines() == PRINTS.findall(code)


def test_every_file_the_page_names_exists() -> None:
    named = {
        word
        for word in PAGE.read_text().replace("`", " ").replace("(", " ").replace(")", " ").split()
        if word.endswith(".py")
    }
    assert named
    assert [name for name in named if not (PAGE.parent / name).exists()] == []
