"""A client in JavaScript that knows nothing but the .proto files."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from distgrad.service.block import serve

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
PACKAGES = ["@grpc/grpc-js@1.14.7", "@grpc/proto-loader@0.8.1"]


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with gRPC for Node."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no Node.js here")
    install = [npm, "install", "--no-audit", "--no-fund", "--silent", *PACKAGES]
    if subprocess.run(install, cwd=tmp_path, capture_output=True, timeout=100).returncode:
        pytest.skip("no Node.js packages to be had here")
    return tmp_path


@pytest.mark.slow
def test_a_client_is_written_from_the_proto_files_alone(packages: Path) -> None:
    shutil.copy(PROGRAMS / "client.js", packages)
    with serve([f"{PROGRAMS}/derivatives.py:{name}" for name in ("rosenbrock", "undeclared")]) as server:
        command = ["node", "client.js", str(ROOT / "proto"), server.address]
        run = subprocess.run(command, cwd=packages, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
    names, (value, gradient), total, (code, details) = map(json.loads, run.stdout.splitlines())
    assert names == ["x"]
    assert value == pytest.approx(24.2)
    assert gradient == pytest.approx([-215.6, -88])
    assert total == 2 * sum(range(100_000))
    assert code == 3
    assert "cotangents[0]: expected float64[], got float64[1]" in details
