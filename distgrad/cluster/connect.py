"""Joining a cluster that runs elsewhere."""

from __future__ import annotations

from distgrad.coordinator.arguments import require_number, require_text
from distgrad.coordinator.client import Client
from distgrad.transport.settings import LOSSLESS, TLS, Lossy, TransportSettings


def connect(
    address: str,
    *,
    token: str = "",
    tls: TLS | None = None,
    insecure: bool = False,
    cluster: str = "distgrad",
    name: str = "",
    timeout: float = 5.0,
    lossy: Lossy = LOSSLESS,
) -> Client:
    """Joins a cluster as a client.

        with dg.connect("host:7400", token=token, tls=tls) as cluster:
            print(cluster.workers)

    Arguments:
        address: "HOST:PORT" of the coordinator.
        token: the cluster's secret, or one that admits clients.
        tls: files that make the links private; needed for hosts other than this one.
        insecure: go there without TLS, over a network you trust.
        cluster: name of the cluster.
        name: of this client; by default one that nobody else has.
        timeout: seconds to be let in.
        lossy: encodings of what this client sends; the workers have their own.

    Raises:
        LinkError: nobody answers at the address, or another cluster does.
        PermissionDenied: the token is not accepted.
        ConfigError: the address is on another host and neither `tls` nor `insecure` is given; or an argument is of a
            wrong kind.
    """
    require_text("connect", name=name)
    require_number("connect", timeout=timeout)
    settings = TransportSettings(cluster=cluster, token=token, tls=tls, insecure=insecure, lossy=lossy)
    return Client(address, settings, name, timeout=timeout)
