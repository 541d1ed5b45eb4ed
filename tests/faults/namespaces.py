"""A network of several machines on one: a network namespace each, joined by a switch whose cables can be pulled.

    this process --- switch --- w0
                          `---- w1 ...

    with without_proxies(), network() as found:
        address = found.add("w0")
        subprocess.Popen([*found.prefix("w0"), "distgrad", "worker", "--listen", f"{address}:0", ...])
        found.pull("w0")

The switch is a namespace of its own with a bridge in it. A cable that is pulled there loses every packet without a
word, as a broken switch or a firewall that drops does: nobody gets a reset or an error. Needs root.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from .world import World

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")

_networks = itertools.count()


def ip(*arguments: str, inside: str = "") -> None:
    """Runs the command `ip`, in a namespace when one is given."""
    run_tool("ip", *(["-n", inside] if inside else []), *arguments)


def run_tool(*command: str) -> None:
    """Runs a command for networks. Some systems keep those where only root's shells look."""
    places = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    found = shutil.which(command[0], path=places)
    assert found is not None, f"{command[0]} is not installed: it comes with iproute2"
    done = subprocess.run([found, *command[1:]], capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


class Network:
    """A switch, this process, and machines.

    Attributes:
        here: address of this process.
    """

    def __init__(self, stack: ExitStack) -> None:
        number = os.getpid() % 10_000 * 10 + next(_networks) % 10
        self._stack = stack
        self._mark = f"dg{number}"  # names of interfaces have 15 letters at most
        self._subnet = f"10.{200 + number % 50}.{number // 50 % 250}"
        self._hosts = itertools.count(1)
        self._switch = self._namespace("s")
        ip("link", "add", "bridge", "type", "bridge", inside=self._switch)
        ip("link", "set", "bridge", "up", inside=self._switch)
        self.here = self._plug_in("here", "")

    def add(self, name: str) -> str:
        """A machine; returns its address."""
        return self._plug_in(name, self._namespace(name))

    def prefix(self, name: str) -> list[str]:
        """What begins the command of a process that is to run on a machine."""
        return ["ip", "netns", "exec", f"{self._mark}{name}"]

    # ---- faults ------------------------------------------------------------------------------------------------------

    def pull(self, *names: str) -> None:
        """Pulls the cables of machines out of the switch."""
        for name in names:
            ip("link", "set", name, "nomaster", inside=self._switch)

    def put_back(self, *names: str) -> None:
        """The opposite of `pull`."""
        for name in names:
            ip("link", "set", name, "master", "bridge", inside=self._switch)

    def take_down(self, name: str) -> None:
        """A machine's network interface goes down, which its kernel knows: what is sent there finds no way out."""
        ip("link", "set", "eth0", "down", inside=f"{self._mark}{name}")

    def separate(self, names: Sequence[str], separate: bool = True) -> None:
        """Machines of these names do not reach one another; all others they do."""
        for name in names:
            state = "on" if separate else "off"
            run_tool("bridge", "-n", self._switch, "link", "set", "dev", name, "isolated", state)

    def mute(self, name: str) -> None:
        """A machine still hears this process, which does not hear it any more."""
        ip("route", "add", "blackhole", f"{self.here}/32", inside=f"{self._mark}{name}")

    # ---- making it ---------------------------------------------------------------------------------------------------

    def _namespace(self, name: str) -> str:
        namespace = f"{self._mark}{name}"
        ip("netns", "add", namespace)
        self._stack.callback(ip, "netns", "del", namespace)
        ip("link", "set", "lo", "up", inside=namespace)
        return namespace

    def _plug_in(self, name: str, namespace: str) -> str:
        """A cable from a machine ("": this one) to the switch."""
        address = f"{self._subnet}.{next(self._hosts)}"
        interface = "eth0" if namespace else f"{self._mark}h"
        peer = [interface, "netns", namespace] if namespace else [interface]
        ip("link", "add", name, "netns", self._switch, "type", "veth", "peer", "name", *peer)
        ip("address", "add", f"{address}/24", "dev", interface, inside=namespace)
        ip("link", "set", interface, "up", inside=namespace)
        ip("link", "set", name, "master", "bridge", "up", inside=self._switch)
        return address


@contextmanager
def network() -> Iterator[Network]:
    """A switch with this process at it; at the end nothing of the network is left."""
    with ExitStack() as stack:
        yield Network(stack)


class NetworkWorld(World):
    """A cluster whose workers have a machine each."""

    def __init__(self, *arguments: object) -> None:
        (*_, stack) = arguments
        self.network = Network(stack)
        self._addresses = {"coordinator": self.network.here}
        super().__init__(*arguments)

    def address(self, name: str) -> str:
        if name not in self._addresses:
            self._addresses[name] = self.network.add(name)
        return f"{self._addresses[name]}:0"

    def prefix(self, name: str) -> list[str]:
        return self.network.prefix(name)


@contextmanager
def without_proxies() -> Iterator[None]:
    """gRPC would send what leaves this machine through the proxies of the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_grpc_proxy", "*")
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            patch.delenv(name, raising=False)
        yield
