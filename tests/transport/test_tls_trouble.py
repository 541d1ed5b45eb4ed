"""What is wrong with certificates, as it is told to whoever has them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from distgrad.errors import LinkError, PermissionDenied
from distgrad.transport import TLS, Endpoint, Identity, TransportSettings
from distgrad.transport.tls_trouble import tls_trouble

from .recorder import Recorder
from .strangers import tls

SECONDS = 5.0


def listening(mine: TLS | None) -> Iterator[str]:
    with Endpoint(Identity.new("w0", "worker"), TransportSettings.for_tests(tls=mine), Recorder()) as listener:
        yield listener.listen("127.0.0.1:0")


@pytest.fixture
def guarded(pki: Path) -> Iterator[str]:
    """Address of a listener that wants certificates."""
    yield from listening(tls(pki, "server"))


@pytest.mark.parametrize("name", ["client", "server"])
def test_with_the_right_certificates_there_is_none(guarded: str, pki: Path, name: str) -> None:
    assert tls_trouble(guarded, tls(pki, name), SECONDS) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("expired", r"does not accept the certificate .*expired\.pem: certificate has expired"),
        ("stranger", r"does not accept the certificate .*stranger\.pem: unable to get local issuer certificate"),
        ("", "wants a certificate, and none was given"),
    ],
)
def test_a_listener_that_refuses_our_certificate_is_explained(guarded: str, pki: Path, name: str, said: str) -> None:
    ours = tls(pki, name) if name else TLS(authority=pki / "authority.pem")
    trouble = tls_trouble(guarded, ours, SECONDS)
    with pytest.raises(PermissionDenied, match=f"{guarded} refuses this client: it {said}"):
        raise trouble or AssertionError("none was found")


@pytest.mark.parametrize(
    ("listener", "ours", "said"),
    [
        ("server", ("client", "other"), "does not hold: "),
        ("expired", ("client", "authority"), "does not hold: certificate has expired"),
        ("", ("client", "authority"), "does not speak TLS as we do"),
    ],
)
def test_a_listener_that_we_cannot_trust_is_explained(
    pki: Path, listener: str, ours: tuple[str, str], said: str
) -> None:
    for address in listening(tls(pki, listener) if listener else None):
        trouble = tls_trouble(address, tls(pki, *ours), SECONDS)
        with pytest.raises(LinkError, match=said):
            raise trouble or AssertionError("none was found")


def test_nobody_there_and_unix_sockets_are_no_trouble_of_tls(pki: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert tls_trouble(f"127.0.0.1:{unused.getsockname()[1]}", tls(pki, "client"), SECONDS) is None
    assert tls_trouble("unix:/nowhere", tls(pki, "client"), SECONDS) is None


def test_a_listener_that_says_nothing_is_not_waited_for(pki: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert tls_trouble(f"127.0.0.1:{silent.getsockname()[1]}", tls(pki, "client"), 0.05) is None
