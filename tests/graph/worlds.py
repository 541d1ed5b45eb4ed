"""One program, many worlds: in one process without a cluster, and on memory clusters with any placement.

A program is a function of a world. It uses what the world gives it (shards, variables, contexts) and returns what it
observed: values, errors, and with `world.gradients(ctx)` every gradient there is. `agree` runs it everywhere and
compares.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

import distgrad as dg
from distgrad.autograd import tape
from distgrad.autograd.backward import gradients, require_node, run_pass, seed_for
from distgrad.autograd.rows import Rows
from distgrad.autograd.sums import added
from distgrad.autograd.tape import Alias, Leaf
from distgrad.autograd.tensor import Boxed
from distgrad.errors import RemoteError
from distgrad.graph.context import Context
from distgrad.graph.functional import shard_frame
from distgrad.graph.values import map_leaves
from tests.processes import eventually

from .memory_cluster import MemoryCluster, memory_cluster

Factories = Mapping[str, Callable[[], Any]]
Program = Callable[[Any], dict[str, Any]]


class Programs(dict[str, tuple[Factories, Program]]):
    """Programs by name, with the shards they need."""

    def enter(self, **factories: Callable[[], Any]) -> Callable[[Program], Program]:
        """Enters a program in the table."""

        def enter(run: Program) -> Program:
            self[run.__name__] = factories, run
            return run

        return enter


# ---- one process, no cluster -----------------------------------------------------------------------------------------

_inside: ContextVar[LocalContext | None] = ContextVar("inside", default=None)


class LocalRef:
    """The value of a local call, or the error it raised, with what programs may do to a Ref."""

    def __init__(self, value: Any = None, error: RemoteError | None = None, recorded: bool = True) -> None:
        self.value = value
        self.error = error
        self.recorded = recorded

    def _value(self) -> Any:
        if self.error is not None:
            raise self.error
        return map_leaves(self.value, lambda leaf: leaf._value() if isinstance(leaf, LocalRef) else leaf)

    def get(self, timeout: float | None = None) -> Any:
        value = self._value()
        return value if self.recorded and tape.mode.get().record else map_leaves(value, _detached)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.get()
        yield

    def numpy(self) -> Any:
        return map_leaves(self._value(), lambda leaf: leaf.numpy() if isinstance(leaf, dg.Tensor) else leaf)

    def item(self) -> Any:
        value = self.numpy()
        return value.item() if isinstance(value, np.ndarray | np.generic) else value

    def wait(self, timeout: float | None = None) -> None:
        self._value()

    def __getitem__(self, step: int | str) -> LocalRef:
        return LocalRef(None if self.error else self._value()[step], self.error, self.recorded)


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, dg.Tensor) else leaf


class LocalHandle:
    """A shard of this process: its methods run at once."""

    def __init__(self, name: str, shard: Any) -> None:
        self.shard_name = name
        self.shard = shard

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._call(method, args, kwargs)

    def _call(self, method: str, args: Any, kwargs: Any) -> Any:
        outputs = getattr(self.shard, "outputs", {}).get(method, 1)
        recorded = _inside.get() is not None
        try:
            with contextlib.nullcontext() if recorded else dg.no_grad():
                args, kwargs = map_leaves((args, kwargs), _argument)
                value = getattr(self.shard, method)(*args, **kwargs)
                value = asyncio.run(value) if isinstance(value, Coroutine) else value
                ref = LocalRef(map_leaves(value, _result), recorded=recorded)
        except RemoteError as error:
            ref = LocalRef(error=error)
        except Exception as error:
            ref = LocalRef(error=RemoteError("local", f"{self.shard_name}.{method}", type(error).__name__, str(error)))
        return ref if outputs == 1 else tuple(ref[k] for k in range(outputs))


def _argument(leaf: Any) -> Any:
    value = leaf.get() if isinstance(leaf, LocalRef) else leaf
    return map_leaves(value, _passed)


def _passed(leaf: Any) -> Any:
    """What a method gets: as over a link, a value of its own, from which gradients go back to the one passed."""
    if isinstance(leaf, np.ndarray):
        return dg.Tensor(leaf.copy())
    if isinstance(leaf, dg.Tensor) and not tape.mode.get().record:
        return leaf.detach()
    # A box of jvp or vmap is passed as it is: it belongs to another tape.
    if isinstance(leaf, dg.Tensor) and not isinstance(leaf, Boxed) and leaf.node is not None:
        return dg.Tensor(leaf.data, Alias(leaf.node, tape.mode.get().frame, leaf.shape, leaf.dtype))
    return leaf


def _result(leaf: Any) -> Any:
    return dg.Tensor(leaf) if isinstance(leaf, np.ndarray) else leaf


class LocalContext:
    """Gradients of its own, as a context on a cluster has."""

    def __init__(self) -> None:
        self.found: dict[Leaf, Any] = {}
        self._tokens: list[Any] = []

    def __enter__(self) -> LocalContext:
        self._tokens.append(_inside.set(self))
        return self

    def __exit__(self, *exception: object) -> None:
        _inside.reset(self._tokens.pop())

    def branch(self, index: int) -> LocalContext:
        return self

    def backward(
        self,
        roots: Any,
        gradient: Any = None,
        *,
        inputs: Any = None,
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> None:
        several = isinstance(roots, list | tuple)
        tensors = [root.get() if isinstance(root, LocalRef) else root for root in (roots if several else [roots])]
        seeds = list(gradient) if several and gradient is not None else [gradient] * len(tensors)

        wanted = None
        if inputs is not None:
            trees = [_grad_input(item) for item in (inputs if isinstance(inputs, list | tuple) else [inputs])]
            wanted = {x.node for tree in trees for x in (tree.values() if isinstance(tree, dict) else [tree])}

        def keep(node: Any, total: Any) -> None:
            if total is not None:
                self.found[node] = total if node not in self.found else added(self.found[node], total)

        with tape.entered(record=True):
            run_pass(
                [require_node(tensor, f"root {k}") for k, tensor in enumerate(tensors)],
                [seed_for(tensor, seed, create_graph) for tensor, seed in zip(tensors, seeds, strict=True)],
                keep,
                wanted=wanted,
                retain=retain_graph or create_graph,
                record=create_graph,
            )

    def grad(self, roots: Any, inputs: Any, gradient: Any = None, **options: Any) -> Any:
        several = isinstance(roots, list | tuple)
        tensors = [root.get() if isinstance(root, LocalRef) else root for root in (roots if several else [roots])]
        seeds = list(gradient) if several and gradient is not None else [gradient] * len(tensors)
        many = isinstance(inputs, list | tuple)
        trees = [_grad_input(item) for item in (inputs if many else [inputs])]
        flat = [x for tree in trees for x in (tree.values() if isinstance(tree, dict) else [tree])]
        with tape.entered(record=True):
            found = iter(gradients(tensors, seeds, flat, **options))
        result: list[Any] = []
        for item, tree in zip(inputs if many else [inputs], trees, strict=True):
            if isinstance(tree, dict):
                pairs = {name: next(found) for name in tree}
                result.append({name: LocalRef(_tensor(g)) for name, g in pairs.items() if g is not None})
            else:
                g = _tensor(next(found))
                result.append(LocalRef(g) if isinstance(item, LocalRef) and g is not None else g)
        return result if many else result[0]


def _grad_input(item: Any) -> Any:
    if isinstance(item, LocalHandle):
        return {name: x for name, x in vars(item.shard).items() if isinstance(x, dg.Tensor)}
    return item.get() if isinstance(item, LocalRef) else item


def _tensor(gradient: Any) -> Any:
    return gradient if gradient is None or isinstance(gradient, dg.Tensor) else dg.Tensor(gradient)


class LocalWorld:
    """Everything in one process; the oracle."""

    local = True

    def __init__(self, factories: Factories) -> None:
        self.shards = {name: make() for name, make in factories.items()}
        self.variables: dict[str, dg.Tensor] = {}

    def shard(self, name: str) -> LocalHandle:
        return LocalHandle(name, self.shards[name])

    def variable(self, name: str, data: Any, dtype: Any = np.float64) -> dg.Tensor:
        self.variables[name] = dg.tensor(data, dtype=dtype, requires_grad=True)
        return self.variables[name]

    def context(self) -> LocalContext:
        return LocalContext()

    def checkpoint(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself: what a checkpoint computes is what it would compute without."""
        return f

    def own_gradient(self, ctx: LocalContext, x: dg.Tensor) -> Any:
        return ctx.found[x.node]  # type: ignore[index]

    def gradients(self, ctx: LocalContext) -> dict[str, Any]:
        leaves = {
            f"{name}.{attribute}": value
            for name, shard in self.shards.items()
            for attribute, value in vars(shard).items()
            if isinstance(value, dg.Tensor) and value.node is not None
        }
        found = {name: ctx.found.get(x.node) for name, x in {**leaves, **self.variables}.items()}
        return {name: _plain(gradient) for name, gradient in found.items() if gradient is not None}


def _plain(gradient: Any) -> Any:
    return gradient.data if isinstance(gradient, dg.Tensor) else gradient


# ---- a cluster -------------------------------------------------------------------------------------------------------


class ClusterWorld:
    """Shards on the workers of a memory cluster; the program runs at `home`, and variables belong to it."""

    local = False

    def __init__(
        self, cluster: MemoryCluster, factories: Factories, places: Mapping[str, str], home: str = "driver"
    ) -> None:
        self.cluster = cluster
        self.home = {process.name: process for process in cluster.processes}[home]
        self.names = list(factories)
        self.variables: dict[str, dg.Tensor] = {}
        for name, make in factories.items():
            with tape.entered(frame=shard_frame(name)):
                cluster.place(name, make(), places[name])

    def shard(self, name: str) -> Any:
        return self.home.handle(name)

    def variable(self, name: str, data: Any, dtype: Any = np.float64) -> dg.Tensor:
        self.variables[name] = dg.tensor(data, dtype=dtype, requires_grad=True)
        return self.variables[name]

    def context(self) -> Any:
        return Context(self.home)

    def checkpoint(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return dg.checkpoint(f)

    def own_gradient(self, ctx: Any, x: dg.Tensor) -> Any:
        return ctx.gradient(x)

    def gradients(self, ctx: Any) -> dict[str, Any]:
        found = {f"{name}.{key}": g for name in self.names for key, g in ctx.gradients(self.shard(name)).items()}
        own = {name: ctx.gradient(x) for name, x in self.variables.items()}
        return {**found, **{name: _plain(gradient) for name, gradient in own.items() if gradient is not None}}


class Placement(NamedTuple):
    """Where shard number k of a program lives, and which process runs the program."""

    name: str
    worker: Callable[[int], str]
    home: str = "driver"


WORKERS = 3
TOGETHER = Placement("together", lambda k: "w0")
SPREAD = Placement("spread", lambda k: f"w{k % WORKERS}")
# A worker runs the program; the first shard lives in it.
AT_HOME = Placement("at home", lambda k: f"w{k % 2}", home="w0")
PLACEMENTS = (TOGETHER, SPREAD, AT_HOME)
COUNTED = ("contexts", "values", "sends", "recvs", "passes", "calls")


@contextlib.contextmanager
def cluster_world(
    factories: Factories, placement: Placement = SPREAD, seed: int = 0, **network: float
) -> Iterator[ClusterWorld]:
    """A world on a cluster of its own, which must be left as empty as it was found."""
    with memory_cluster(WORKERS, seed, **network) as cluster:
        places = {name: placement.worker(k) for k, name in enumerate(factories)}
        yield ClusterWorld(cluster, factories, places, placement.home)
        assert_empty(cluster)


def assert_empty(cluster: MemoryCluster) -> None:
    """Nothing of any context is left on any process, at the latest when calls that nobody waited for have ended."""

    def is_empty() -> bool:
        gc.collect()  # tracebacks of errors that a test has caught hold references
        cluster.settle()
        return not _left(cluster)

    cluster.settle()
    if left := _left(cluster):
        assert eventually(is_empty), f"left behind: {left}"


def _left(cluster: MemoryCluster) -> dict[str, dict[str, int]]:
    found = {name: {key: counts[key] for key in COUNTED if counts[key]} for name, counts in cluster.counts().items()}
    return {name: counts for name, counts in found.items() if counts}


# ---- comparing -------------------------------------------------------------------------------------------------------


def agree(factories: Factories, program: Program, seeds: range = range(2)) -> None:
    """Runs a program in one process and on clusters. All must observe the same; the clusters to the last bit."""
    expected = program(LocalWorld(factories))
    first: Any = None
    for placement in PLACEMENTS:
        for seed in seeds:
            with cluster_world(factories, placement, seed) as world:
                observed = program(world)
            where = f"{placement.name}, seed {seed}"
            same(observed, expected, where, exact=False)
            first = observed if first is None else first
            same(observed, first, f"{where} against {PLACEMENTS[0].name}, seed {seeds[0]}", exact=True)


def same(found: Any, expected: Any, where: str, exact: bool, tolerance: float = 1e-12) -> None:
    """Asserts that two observations are equal: to the last bit, or up to the order of sums."""
    if isinstance(expected, dict):
        assert isinstance(found, dict), f"{where}: {found}"
        assert sorted(found) == sorted(expected), f"{where}: observed {sorted(found)}, expected {sorted(expected)}"
        for key in expected:
            same(found[key], expected[key], f"{where}: {key}", exact, tolerance)
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected), f"{where}: {found}"
        assert len(found) == len(expected), f"{where}: {found}"
        for k, (a, b) in enumerate(zip(found, expected, strict=True)):
            same(a, b, f"{where}: [{k}]", exact, tolerance)
    elif isinstance(expected, Rows):
        assert isinstance(found, Rows), f"{where}: a {type(found).__name__}, expected rows"
        same(found.indices, expected.indices, f"{where}: row numbers", exact, tolerance)
        same(found.values, expected.values, f"{where}: rows", exact, tolerance)
        assert found.length == expected.length, where
    elif isinstance(expected, dg.Tensor | np.ndarray | np.generic):
        assert isinstance(found, dg.Tensor | np.ndarray | np.generic), f"{where}: {found!r}"
        a, b = (np.asarray(x.data) if isinstance(x, dg.Tensor) else np.asarray(x) for x in (found, expected))
        assert (a.shape, a.dtype) == (b.shape, b.dtype), where
        if exact:
            np.testing.assert_array_equal(a, b, where)
        else:
            limit = tolerance if a.dtype.itemsize >= 8 and a.dtype.kind != "i" else 1e-5
            np.testing.assert_allclose(a, b, limit, limit, err_msg=where)
    elif isinstance(expected, float) and not exact:
        np.testing.assert_allclose(found, expected, tolerance, err_msg=where)
    else:
        assert found == expected, f"{where}: {found!r}, expected {expected!r}"
