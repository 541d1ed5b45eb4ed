"""What the documentation shows runs, prints what it says it prints, and names things that exist.

In a page, an HTML comment before a code block says what it is: `<!-- run -->` is a program, run in a fresh directory;
`<!-- file: NAME -->` is a file that the programs of the page find there. A comment `# prints TEXT` at the end of a
line promises a line of output.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")

BLOCK = re.compile(
    r"^<!-- (?P<mark>run|file: (?P<file>\S+)) -->\n```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
MARK = re.compile(r"^<!-- (run|file)", re.MULTILINE)
PRINTS = re.compile(r"# prints (.*)$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


@dataclass(frozen=True)
class Program:
    """A runnable block of a page, with the files the page gives it."""

    page: str
    line: int
    code: str
    files: dict[str, str]


def programs(page: str) -> list[Program]:
    text = (ROOT / page).read_text()
    blocks = list(BLOCK.finditer(text))
    files = {block["file"]: block["code"] for block in blocks if block["file"]}
    return [
        Program(page, text.count("\n", 0, block.start()) + 1, block["code"], files)
        for block in blocks
        if block["mark"] == "run"
    ]


PROGRAMS = [program for page in PAGES for program in programs(page)]


@pytest.mark.parametrize("program", PROGRAMS, ids=[f"{program.page}:{program.line}" for program in PROGRAMS])
def test_a_program_runs_and_prints_what_it_says(program: Program, tmp_path: Path) -> None:
    for name, content in program.files.items():
        (tmp_path / name).write_text(content)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program.code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() == PRINTS.findall(program.code)


@pytest.mark.parametrize("page", PAGES)
def test_every_marked_block_is_a_python_block(page: str) -> None:
    text = (ROOT / page).read_text()
    assert len(MARK.findall(text)) == len(BLOCK.findall(text))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_to_one(page: str) -> None:
    assert [link for link in LINK.findall((ROOT / page).read_text()) if not (ROOT / link).exists()] == []


def test_every_job_the_readme_starts_exists() -> None:
    jobs = re.findall(r"distgrad train (\S+)", (ROOT / "README.md").read_text())
    assert jobs
    assert [job for job in jobs if not (ROOT / job).exists()] == []
