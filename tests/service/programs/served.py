"""What the tests of the service serve."""

import itertools
import os
import signal
import time

import numpy as np

import distgrad as dg


@dg.served(takes={"x": "float64[n]"}, gives="float64[n]", batchable=True)
def sine(x):
    """The sine of each element.

    More about it.
    """
    return np.sin(x)


@dg.served(takes={"x": "float64[n]"}, gives="float64")
def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@dg.served(
    takes={"model": {"weights": ["float64[m, n]", "float64[m]"], "scale": "float64"}, "x": "float32[n]", "kind": "any"},
    gives={"y": "float64[m]", "norm": "float64"},
)
def affine(model, x, kind="plain"):
    w, b = model["weights"]
    y = model["scale"] * (w @ x + b)
    return {"y": y if kind == "plain" else np.exp(y), "norm": np.sum(y * y)}


def anything(x, y=2.0):
    return x * y


@dg.served(takes={"z": "complex128[n]"}, gives="complex128[n]")
def square(z):
    return z * z


def raises(x, message="no such x"):
    y = x + 1
    raise ValueError(message)
    return y


def objects(x):
    return object()


def leaves(x):
    raise SystemExit(3)


@dg.served(takes={"x": "float64[]", "seconds": "float64"})
def spins(x, seconds):
    """Computes for some time, in small steps; a number at the end says that it did."""
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        x = x + 0.0
    return x


def sleeps_deeply(x, seconds):
    """Holds on whatever it is told."""
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        try:
            time.sleep(0.05)
        except BaseException:
            continue
    return x


def dies(x):
    os.kill(os.getpid(), signal.SIGKILL)
    return x


@dg.served(takes={"x": "float64[]"}, gives="float64[]", batchable=True)
def dies_below_zero(x):
    if np.any(np.asarray(x) < 0):
        dies(x)
    return x


_CALLS = itertools.count(1)


@dg.served(takes={"x": "float64[]"}, gives="float64[]", batchable=True)
def waits(x):
    """Ends when the test's fixture `let_go` says so, of this process's first call, second, ..."""
    number = next(_CALLS)
    while not os.path.exists(f"{os.environ['DISTGRAD_TEST_GONE']}/{number}"):
        time.sleep(0.01)
    return 1 * x


def process(x):
    return os.getpid() + 0 * x


def grows(x, n):
    return np.zeros(int(n)) + x


@dg.served(takes={"x": "float64[n]", "fault": "any"}, gives={"y": "float64[n]", "total": "float64"})
def promises(x, fault=""):
    """Returns what it is declared to give, or fails to in some way."""
    wrong = {
        "length": {"y": x[1:], "total": np.sum(x)},
        "axes": {"y": x, "total": x},
        "name": {"y": x, "sum": np.sum(x)},
        "kind": (x, np.sum(x)),
        "nothing": None,
        "text": {"y": "x", "total": np.sum(x)},
        "dtype": {"y": x * 1j, "total": np.sum(x)},
        "less": {"y": np.astype(x, np.float32), "total": 3},
    }
    return wrong.get(fault, {"y": x * x, "total": np.sum(x)})


CALLS = []


def counted(x):
    """How often this process has called one of these two, for each element; requests computed as one are one call."""
    CALLS.append(1)
    return 0 * x + len(CALLS)


soon = dg.served(takes={"x": "float64[n]"}, gives="float64[n]", batchable=True, max_delay=0.01)(lambda x: counted(x))
late = dg.served(takes={"x": "float64[n]"}, gives="float64[n]", batchable=True, max_delay=3600.0)(lambda x: counted(x))


class Counter:
    """Counts its calls, in each process for itself."""

    def __init__(self):
        self.calls = 0
        self.last = None

    @dg.served(takes={"x": "float64[n]"}, gives="float64[n]")
    def cube(self, x):
        """The cube."""
        self.calls += 1
        self.last = x
        return x**3

    @dg.served()
    def seen(self, x):
        """How often `cube` ran, and what it was given last."""
        return {"calls": self.calls, "last": self.last}


class Whole:
    def __call__(self, x):
        return 2.0 * x
