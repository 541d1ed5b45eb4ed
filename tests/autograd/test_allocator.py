"""The allocator's settings. They last as long as a process, so each test has one of its own."""

from __future__ import annotations

import subprocess
import sys

# Writes to fresh arrays of 64 MiB and counts the page faults of all but the first. Others beside them are not touched.
FAULTS = """
import resource
import numpy as np

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def use():
    used, unused = np.empty(2**26, np.uint8), np.empty({unused}, np.uint8)
    used.fill(1)

{before}
use()
start = faults()
for _ in range(4):
    use()
print(faults() - start)
"""
KEEP = "from distgrad import keep_freed_memory\nassert keep_freed_memory()"
SAY = "from distgrad import keep_freed_memory\nprint(keep_freed_memory())"


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_memory_of_freed_arrays_is_used_again_without_page_faults() -> None:
    without = int(run(FAULTS.format(before="", unused=0)))
    assert without > 100  # pages may be huge ones of 2 MiB: 32 an array
    assert int(run(FAULTS.format(before=KEEP, unused=0))) < 10


def test_there_is_no_bound_to_the_memory_that_is_kept() -> None:
    assert int(run(FAULTS.format(before=KEEP, unused=3 * 2**30))) < 10


def test_without_glibc_there_is_nothing_to_set() -> None:
    assert run("import ctypes\nctypes.CDLL = lambda name: object()\n" + SAY) == "False"


def test_elsewhere_than_on_linux_there_is_nothing_to_set() -> None:
    assert run("import sys\nsys.platform = 'darwin'\n" + SAY) == "False"
