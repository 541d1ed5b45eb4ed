from __future__ import annotations

from collections.abc import Iterator

import pytest

import distgrad as dg
from distgrad.service.client import Client, client

from .server import Server


def rosenbrock(x):
    return dg.ops.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def sin(x):
    return dg.ops.sin(x)


def valley(x):
    """Residuals of Rosenbrock's function."""
    return dg.ops.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:1]])


def field(x, p):
    """A tree of trees."""
    return {"a": dg.ops.sin(x) * p["k"], "b": [dg.ops.sum(x * x * p["m"])]}


def wave(z):
    """Of complex numbers, and not holomorphic."""
    return dg.ops.exp(z) * dg.ops.conj(z)


def ramp(n):
    return dg.ops.arange(n) * 1.0


def broken(x):
    raise ValueError(f"cannot use {x.shape}")


FUNCTIONS = {f.__name__: f for f in (rosenbrock, sin, valley, field, wave, ramp, broken)}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(FUNCTIONS) as server:
        yield server


@pytest.fixture
def remote(server: Server) -> Iterator[Client]:
    """A client of the server."""
    with client(server.address, timeout=20) as service:
        yield service


@pytest.fixture(params=["local", "grpc"])
def service(server: Server, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of the server, over each line in turn."""
    with client(server.address, local=request.param == "local", timeout=20) as service:
        yield service
