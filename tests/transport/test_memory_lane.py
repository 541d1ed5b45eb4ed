from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from distgrad.transport import Endpoint, Identity, MemoryNetwork, TransportSettings
from distgrad.wire import pb

from .recorder import DEADLINE, Recorder

SETTINGS = TransportSettings.for_tests(reconnect_window=DEADLINE, silence=DEADLINE, heartbeat=5.0)


def three(network: MemoryNetwork) -> list[Endpoint]:
    endpoints = [Endpoint(Identity.new(name, "worker"), SETTINGS, Recorder(), network.lanes()) for name in "abc"]
    for endpoint in endpoints:
        endpoint.listen(f"memory:{endpoint.identity.name}")
    for opener, listener in ((0, 1), (1, 2), (2, 0)):
        endpoints[opener].connect(endpoints[listener].identity.name, endpoints[listener].identity.address)
    return endpoints


@pytest.mark.parametrize("seed", range(8))
def test_delays_duplicates_and_breaks_lose_nothing_and_double_nothing(seed: int) -> None:
    with MemoryNetwork(seed, duplicates=0.2, breaks=0.02) as network:
        endpoints = three(network)
        for number in range(60):
            for here in endpoints:
                for there in endpoints:
                    if here is not there:
                        here.receiver.wait_for(lambda here=here, there=there: here.link(there.identity.name))
                        link = here.link(there.identity.name)
                        link.send(pb.Call(path=[number], method=here.identity.name), [np.zeros(100 * number)])
        for here in endpoints:
            messages = here.receiver.received(120)
            for there in endpoints:
                if here is not there:
                    got = [message.path[0] for message in messages if message.method == there.identity.name]
                    assert got == list(range(60))
            assert here.receiver.losses == []
        for endpoint in endpoints:
            endpoint.close()


def history(seed: int) -> list[Any]:
    """What arrives where, in which order, when all is sent while the network is paused."""
    arrived: list[Any] = []
    with MemoryNetwork(seed) as network:
        endpoints = three(network)
        network.pause()
        for endpoint in endpoints:
            endpoint.receiver.receive = lambda link, body, arrays: arrived.append((link.peer.name, body.path[0]))
            for link in sorted(endpoint.links(), key=lambda link: link.peer.name):
                for number in range(5):
                    link.send(pb.Call(path=[number]))
        while len(arrived) < 30:
            assert network.step()
        network.resume()
        for endpoint in endpoints:
            endpoint.close()
    return arrived


def test_while_paused_nothing_moves_but_by_a_step() -> None:
    with MemoryNetwork() as network:
        endpoints = three(network)
        network.pause()
        endpoints[0].link("b").send(pb.Call())
        assert endpoints[1].receiver.messages == []
        while not endpoints[1].receiver.messages:
            assert network.step()
        network.resume()
        for endpoint in endpoints:
            endpoint.close()


def test_seeds_change_the_order_of_arrival() -> None:
    assert len({tuple(history(seed)) for seed in range(5)}) > 1
