from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from distgrad.wire import generate, pb


def test_the_checked_in_code_is_what_the_protos_say() -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    assert generate.differences(generate.generate()) == []


def test_a_difference_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(generate, "generate", lambda: {"x_pb2.py": "new", "y_pb2.py": "same"})
    monkeypatch.setattr(generate, "TARGET", tmp_path)
    (tmp_path / "x_pb2.py").write_text("old")
    (tmp_path / "y_pb2.py").write_text("same")
    (tmp_path / "z_pb2.py").write_text("gone")
    assert generate.main(["--check"]) == 1
    assert "x_pb2.py" in (said := capsys.readouterr().err)
    assert "z_pb2.py" in said
    assert "y_pb2.py" not in said
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


def test_pb_offers_every_message_of_every_proto() -> None:
    for path in generate.TARGET.glob("*_pb2.py"):
        module = __import__(f"distgrad.wire.v1.{path.stem}", fromlist=["DESCRIPTOR"])
        for name in [*module.DESCRIPTOR.message_types_by_name, *module.DESCRIPTOR.enum_types_by_name]:
            assert getattr(pb, name) is getattr(module, name)


def test_the_wire_does_not_import_grpc() -> None:
    code = "import sys, distgrad.wire; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
