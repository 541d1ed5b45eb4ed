from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading

from distgrad.observe import usage


def test_what_is_opened_started_and_mapped_is_counted() -> None:
    before = usage()
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    descriptor = os.memfd_create("test")
    os.ftruncate(descriptor, 4096)
    with mmap.mmap(descriptor, 4096):
        during = usage()
    os.close(descriptor)
    ended.set()
    thread.join()
    # The map has a descriptor of its own.
    assert during["descriptors"] == before["descriptors"] + 2
    assert during["system_threads"] == before["system_threads"] + 1
    assert during["shared_blocks"] == before["shared_blocks"] + 1
    after = usage()
    assert {**after, "memory_bytes": 0} == {**before, "memory_bytes": 0}


def test_memory_is_what_the_system_says() -> None:
    code = (
        "import resource; from distgrad.observe import usage; held = bytearray(2**26)\n"
        "print(usage()['memory_bytes'], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    memory, most_so_far = map(int, said.split())
    assert 2**26 < memory <= most_so_far * 1.05
