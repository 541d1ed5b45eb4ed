"""Separate hosts on one machine: network namespaces, joined by cables with a rate and a delay.

Hosts know one another by name, as /etc/hosts would tell them. Needs root.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.faults.namespaces import Network, ip, run_tool

SLOW_CABLE = Path(__file__).parent / "slow_cable.py"


class Hosts(Network):
    """Hosts on a switch.

    Arguments:
        names: of the hosts.
        rate: of each cable, as `tc` takes it: "100mbit".
        delay: seconds that each cable takes, each way.
    """

    def __init__(self, stack: ExitStack, names: Sequence[str], rate: str, delay: float) -> None:
        super().__init__(stack)
        self._rate = rate
        self._delay = delay
        self.addresses = {name: self.add(name) for name in names}
        for name in names:
            self._tell_names(name)

    def run(self, name: str, command: str, **options: object) -> subprocess.Popen[str]:
        """Starts a shell command on a host."""
        return subprocess.Popen([*self.prefix(name), "bash", "-c", command], text=True, **options)

    def _tell_names(self, name: str) -> None:
        """`ip netns exec` puts the files of this folder in the place of those in /etc."""
        folder = Path("/etc/netns", f"{self._mark}{name}")
        folder.mkdir(parents=True)
        self._stack.callback(shutil.rmtree, folder)
        lines = [f"{address} {host}" for host, address in self.addresses.items()]
        (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))

    def _plug_in(self, name: str, namespace: str) -> str:
        if not namespace:
            return super()._plug_in(name, namespace)
        command = [sys.executable, str(SLOW_CABLE), self._switch, name, namespace, "eth0", str(self._delay)]
        cable = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._stack.callback(_end, cable)
        assert cable.stdout is not None
        assert cable.stdout.readline() == "ready\n"
        address = f"{self._subnet}.{next(self._hosts)}"
        ip("address", "add", f"{address}/24", "dev", "eth0", inside=namespace)
        ip("link", "set", "eth0", "up", inside=namespace)
        ip("link", "set", name, "master", "bridge", "up", inside=self._switch)
        for where, device in ((namespace, "eth0"), (self._switch, name)):
            limit = ["tbf", "rate", self._rate, "burst", "64kb", "latency", "200ms"]
            run_tool("tc", "-n", where, "qdisc", "add", "dev", device, "root", *limit)
        return address


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@contextmanager
def hosts(*names: str, rate: str = "200mbit", delay: float = 0.005) -> Iterator[Hosts]:
    """These hosts; at the end nothing of them is left."""
    with ExitStack() as stack:
        yield Hosts(stack, names, rate, delay)
