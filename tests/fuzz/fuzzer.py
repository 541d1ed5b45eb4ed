"""The process that fuzzes: `python -m tests.fuzz.fuzzer TARGET LIBFUZZER_ARGUMENTS...`. libFuzzer ends it."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["distgrad"]):
    from .targets import TARGETS


def main() -> None:
    _, name, *arguments = sys.argv
    # libFuzzer takes the first argument for its command, to start itself with when it merges.
    command = f"{sys.executable} -m tests.fuzz.fuzzer {name}"
    with TARGETS[name]() as harm:
        atheris.Setup([command, *arguments], harm, internal_libfuzzer=True)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
