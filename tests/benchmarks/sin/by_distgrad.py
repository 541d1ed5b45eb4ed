"""The vjp of sin by distgrad."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import distgrad as dg
from distgrad.service.grpc_door import SERVICE
from distgrad.transport.grpc_health import is_serving
from distgrad.transport.settings import TransportSettings

from .turns import answer


@dg.served(takes={"x": "float64[n]"}, gives="float64[n]")
def sine(x: Any) -> Any:
    return np.sin(x)


def serve(port: int) -> None:
    from distgrad.cli import main

    main(["serve", f"{Path(__file__)}:sine", "--listen", f"localhost:{port}", "--workers", "2"])


def ask(port: int, local: bool) -> None:
    # It listens before its processes are ready.
    while not is_serving(f"localhost:{port}", TransportSettings(), SERVICE, 30.0):
        time.sleep(0.1)
    with dg.client(f"localhost:{port}", local=local) as service:
        f = service["sine"]
        answer(lambda x, v: f.vjp(x, v))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        ask(int(sys.argv[2]), local=sys.argv[1] == "ask")
