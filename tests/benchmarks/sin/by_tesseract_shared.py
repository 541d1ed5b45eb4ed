"""The vjp of sin by Tesseract 1.15, over HTTP with arrays in shared memory: files in the folder where both run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from tesseract_core import Tesseract
from tesseract_core.sdk.tesseract import HTTPClient

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from turns import answer  # noqa: E402


def serve(port: int) -> None:
    os.environ["TESSERACT_API_PATH"] = str(HERE / "tesseract_api.py")
    os.environ["TESSERACT_INPUT_PATH"] = os.environ["TESSERACT_OUTPUT_PATH"] = str(Path.cwd())
    os.environ["TESSERACT_OUTPUT_FORMAT"] = "json+binref"
    command = str(Path(sys.executable).parent / "tesseract-runtime")
    os.execv(command, [command, "serve", "--port", str(port)])


def ask(port: int) -> None:
    tesseract = Tesseract.from_url(f"http://localhost:{port}", server_output_path=Path.cwd())
    # What `Tesseract.from_image` makes of its option of the same name, for servers in containers.
    tesseract._client = HTTPClient(
        f"http://localhost:{port}", output_path=Path.cwd(), input_path=Path.cwd(), experimental_binref_pool=True
    )

    def vjp(x: np.ndarray, v: np.ndarray) -> np.ndarray:
        return tesseract.vector_jacobian_product({"x": x}, ["x"], ["y"], {"y": v})["x"]

    answer(vjp)


if __name__ == "__main__":
    (serve if sys.argv[1] == "serve" else ask)(int(sys.argv[2]))
