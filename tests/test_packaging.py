"""What a user installs is what the repository holds."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def tracked(repository: Path, *below: str) -> set[str]:
    listing = subprocess.run(["git", "ls-files", *below], cwd=repository, capture_output=True, text=True, check=True)
    return set(listing.stdout.splitlines())


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_the_source_archive_holds_everything_visible(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-local", ROOT, clone], check=True)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "--directory", tmp_path], cwd=clone, check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == tracked(clone, "distgrad")
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()}
    assert names == {name for name in tracked(clone) if not name.startswith(".")} | {".gitignore", "PKG-INFO"}
