"""The vjp of sin by Tesseract 1.15, over HTTP with base64, as its own client asks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from tesseract_core import Tesseract

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from turns import answer  # noqa: E402


def serve(port: int) -> None:
    os.environ["TESSERACT_API_PATH"] = str(HERE / "tesseract_api.py")
    command = str(Path(sys.executable).parent / "tesseract-runtime")
    os.execv(command, [command, "serve", "--port", str(port)])


def ask(port: int) -> None:
    tesseract = Tesseract.from_url(f"http://localhost:{port}")

    def vjp(x: np.ndarray, v: np.ndarray) -> np.ndarray:
        return tesseract.vector_jacobian_product({"x": x}, ["x"], ["y"], {"y": v})["x"]

    answer(vjp)


if __name__ == "__main__":
    (serve if sys.argv[1] == "serve" else ask)(int(sys.argv[2]))
