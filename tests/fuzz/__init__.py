"""Bytes made up by a fuzzer that watches which lines they reach (atheris, on libFuzzer).

    python -m tests.fuzz worker                  a minute of it
    python -m tests.fuzz worker --seconds 600 --keep
    python -m tests.fuzz worker crash-1234       one input again

Inputs that reached something are kept in `corpus/`, a file each, and tried again by every run of the tests.
"""
