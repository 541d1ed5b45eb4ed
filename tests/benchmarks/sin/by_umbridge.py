"""The vjp of sin by UM-Bridge 1.2.10: its Gradient, written by hand as it wants."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import umbridge

sys.path.insert(0, str(Path(__file__).parent))
from turns import answer

SIZES = (10, 10_000, 1_000_000)


class Sine(umbridge.Model):
    def __init__(self, n: int) -> None:
        super().__init__(f"sine{n}")
        self._n = n

    def get_input_sizes(self, config: dict) -> list[int]:
        return [self._n]

    def get_output_sizes(self, config: dict) -> list[int]:
        return [self._n]

    def __call__(self, parameters: list, config: dict) -> list:
        return [np.sin(parameters[0]).tolist()]

    def gradient(self, out_wrt: int, in_wrt: int, parameters: list, sens: list, config: dict) -> list:
        return (np.cos(parameters[0]) * sens).tolist()

    def supports_evaluate(self) -> bool:
        return True

    def supports_gradient(self) -> bool:
        return True


def ask(port: int) -> None:
    models = {n: umbridge.HTTPModel(f"http://localhost:{port}", f"sine{n}") for n in SIZES}
    answer(lambda x, v: np.array(models[len(x)].gradient(0, 0, [x.tolist()], v.tolist())))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        umbridge.serve_models([Sine(n) for n in SIZES], int(sys.argv[2]), max_workers=2, error_checks=False)
    else:
        ask(int(sys.argv[2]))
