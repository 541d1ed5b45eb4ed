"""Makes the Python code of `proto/distgrad/v1` that is checked in under `distgrad/wire/v1`.

    python -m distgrad.wire.generate           # write it
    python -m distgrad.wire.generate --check   # exit with 1 when what is checked in differs

Needs grpcio-tools 1.76.0: newer tools make code that older protobuf runtimes refuse.

protoc derives Python imports from the paths of the files, so the protos are compiled in a temporary tree where they lie
under `distgrad/wire/v1`. That makes the imports absolute and right without touching what protoc wrote; the protobuf
package, and with it everything on the wire, stays `distgrad.v1`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import tempfile
from pathlib import Path

TOOLS_VERSION = "1.76.0"
ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "proto" / "distgrad" / "v1"
TARGET = ROOT / "distgrad" / "wire" / "v1"


def generate() -> dict[str, str]:
    """Compiles the protos; returns the text of every generated file by its name.

    Raises:
        SystemExit: grpcio-tools is absent or of another version, or protoc refuses a file.
    """
    _require_tools()
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "distgrad" / "wire" / "v1"
        tree.mkdir(parents=True)
        sources = []
        for proto in sorted(SOURCE.glob("*.proto")):
            moved = tree / proto.name
            moved.write_text(proto.read_text().replace('import "distgrad/v1/', 'import "distgrad/wire/v1/'))
            sources.append(str(moved.relative_to(folder)))
        include = Path(protoc.__file__).parent / "_proto"
        out = [f"--python_out={folder}", f"--pyi_out={folder}"]
        if protoc.main(["protoc", f"-I{folder}", f"-I{include}", *out, *sources]) != 0:
            raise SystemExit("protoc refused the files above")
        return {path.name: path.read_text() for path in sorted(tree.glob("*_pb2.py*"))}


def _require_tools() -> None:
    try:
        found = importlib.metadata.version("grpcio-tools")
    except importlib.metadata.PackageNotFoundError:
        found = "none"
    if found != TOOLS_VERSION:
        raise SystemExit(
            f"found grpcio-tools {found}, expected {TOOLS_VERSION}: pip install grpcio-tools=={TOOLS_VERSION}"
        )


def differences(generated: dict[str, str]) -> list[str]:
    """Names of the checked-in files that are missing, superfluous or different."""
    present = {path.name: path.read_text() for path in TARGET.glob("*_pb2.py*")}
    return sorted(name for name in generated.keys() | present.keys() if generated.get(name) != present.get(name))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 on any difference")
    options = parser.parse_args(arguments)
    generated = generate()
    different = differences(generated)
    if options.check:
        for name in different:
            print(f"{name} is not what proto/ says: run `python -m distgrad.wire.generate`", file=sys.stderr)
        return 1 if different else 0
    for name in different:
        path = TARGET / name
        if name in generated:
            path.write_text(generated[name])
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
