"""What the fuzzer has found before does no harm; and with the fuzzer at hand, neither does what it finds now."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from .targets import TARGETS, kept, pack, seeds, unpack


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_of_the_corpus_does_harm(name: str) -> None:
    with TARGETS[name]() as harm:
        for path in kept(name):
            data = path.read_bytes()
            try:
                harm(data)
            except Exception as error:
                error.add_note(f"input {path}")
                raise


@pytest.mark.parametrize("name", TARGETS)
def test_no_ordinary_input_does_harm(name: str) -> None:
    with TARGETS[name]() as harm:
        for data in seeds(name):
            harm(data)


def test_inputs_are_frames_behind_their_lengths() -> None:
    frames = [b"", b"one", b"x" * 300]
    assert unpack(pack(frames)) == frames
    assert unpack(b"\x00\x05abc") == [b"abc"]
    assert unpack(b"\x00") == [b""]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.skipif(find_spec("atheris") is None, reason="no wheel of atheris for this Python or machine")
@pytest.mark.parametrize("name", TARGETS)
def test_the_fuzzer_finds_no_harm(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", "60"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
