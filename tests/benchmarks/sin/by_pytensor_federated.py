"""The vjp of sin by pytensor-federated 1.0.2, as a function of arrays to arrays."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
from grpclib.server import Server
from pytensor_federated import ArraysToArraysService, ArraysToArraysServiceClient

sys.path.insert(0, str(Path(__file__).parent))
from turns import answer


async def serve(port: int) -> None:
    server = Server([ArraysToArraysService(lambda x, v: [np.cos(x) * v])])
    await server.start("127.0.0.1", port)
    await server.wait_closed()


def ask(port: int) -> None:
    client = ArraysToArraysServiceClient("127.0.0.1", port)
    answer(lambda x, v: client.evaluate(x, v)[0])


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(int(sys.argv[2])))
    else:
        ask(int(sys.argv[2]))
