from __future__ import annotations

import pytest

from distgrad.show.figures import Figure, print_figures

CALL = {"lane": "unix", "name": "call", "label": "call round trip", "unit": "ms", "ours": 0.1}


@pytest.mark.parametrize(
    ("beside", "row"),
    [
        ({}, "unix  call round trip  0.100 ms"),
        ({"peer": "torch", "theirs": 0.5, "ratio": 5.0}, "unix  call round trip  0.100 ms  torch 0.500 ms  5.00"),
        (
            {"peer": "torch", "theirs": 0.5, "ratio": 5.0, "target": 5.0},
            "unix  call round trip  0.100 ms  torch 0.500 ms  5.00  5.00",
        ),
        (
            {"peer": "torch", "theirs": 0.4, "ratio": 4.0, "target": 5.0},
            "unix  call round trip  0.100 ms  torch 0.400 ms  4.00  5.00 (missed)",
        ),
    ],
    ids=["alone", "beside a peer", "a target reached", "a target missed"],
)
def test_a_figure_is_a_row(beside: dict, row: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_figures([Figure(**(CALL | beside))])
    _, printed = capsys.readouterr().out.splitlines()
    assert printed.split() == row.split()
