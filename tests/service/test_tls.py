"""TLS between clients and a server: whose certificates hold, and what is said when they do not."""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from distgrad.errors import ConfigError, DistgradError, LinkError, PermissionDenied
from distgrad.service import certificates
from distgrad.service.certificates import make_certificates
from distgrad.service.client import client
from distgrad.service.settings import ServiceSettings
from distgrad.transport.settings import TLS
from tests.service.raw import DEADLINE, Failed, Running, Unary, serving


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Certificates of our authority, and of another."""
    pytest.importorskip("cryptography")
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder / "ours", clients=["alice"])
    make_certificates(folder / "others", clients=["alice"])
    return {"ours": folder / "ours", "others": folder / "others"}


def tls_settings(folder: Path, authority: bool = True) -> ServiceSettings:
    tls = TLS(
        certificate=folder / "server.pem",
        key=folder / "server-key.pem",
        authority=folder / "ca.pem" if authority else None,
    )
    return ServiceSettings(workers=1, tls=tls, local_socket=False)


def credentials(authority: Path, client: Path | None) -> Any:
    return grpc.ssl_channel_credentials(
        (authority / "ca.pem").read_bytes(),
        (client / "alice-key.pem").read_bytes() if client else None,
        (client / "alice.pem").read_bytes() if client else None,
    )


def test_with_mtls_only_clients_that_our_authority_vouches_for_get_in(folders: dict[str, Path]) -> None:
    ours, others = folders["ours"], folders["others"]
    with serving(["sine"], tls_settings(ours)) as running:
        client = Unary(running.address, credentials=credentials(ours, ours))
        assert client.ask("evaluate", function="sine", arguments=[np.zeros(2)])["value"].sum() == 0
        with pytest.raises(Failed, match="no function"):
            client.ask("evaluate", function="cosine", arguments=[])
        client.close()
        for refused in (credentials(ours, None), credentials(ours, others), credentials(others, ours), None):
            client = Unary(running.address, credentials=refused)
            with pytest.raises(Failed) as raised:
                client.call("ListFunctions", b"", timeout=5.0)
            assert raised.value.code == "UNAVAILABLE"
            client.close()


def test_an_expired_certificate_is_refused(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LongAgo(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return datetime.datetime.now(tz) - datetime.timedelta(days=800)

    monkeypatch.setattr(certificates, "datetime", LongAgo)
    make_certificates(tmp_path / "old", days=30)
    with serving(["sine"], tls_settings(tmp_path / "old", authority=False)) as running:
        host, _, port = running.address.rpartition(":")
        context = ssl.create_default_context(cafile=str(tmp_path / "old" / "ca.pem"))
        with (
            socket.create_connection((host, int(port)), DEADLINE) as plain,
            pytest.raises(ssl.SSLCertVerificationError, match="expired"),
        ):
            context.wrap_socket(plain, server_hostname="localhost")
        client = Unary(
            running.address, credentials=grpc.ssl_channel_credentials((tmp_path / "old/ca.pem").read_bytes())
        )
        with pytest.raises(Failed):
            client.call("ListFunctions", b"", timeout=5.0)
        client.close()


@pytest.fixture(scope="module")
def guarded(pki: Path) -> Iterator[Running]:
    """A server that wants certificates."""
    tls = TLS(certificate=pki / "server.pem", key=pki / "server.key", authority=pki / "authority.pem")
    with serving(["sine"], ServiceSettings(workers=1, tls=tls)) as running:
        yield running


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize(
    ("name", "authority", "kind", "said"),
    [
        ("expired", "authority", PermissionDenied, r"refuses this client: .*expired\.pem: certificate has expired"),
        (
            "stranger",
            "authority",
            PermissionDenied,
            r"refuses this client: .*stranger\.pem: unable to get local",
        ),
        ("", "authority", PermissionDenied, "it wants a certificate, and none was given"),
        ("client", "other", LinkError, "the certificate of .* does not hold"),
    ],
)
def test_a_client_whose_certificates_do_not_do_is_told_why(
    guarded: Running, pki: Path, local: bool, name: str, authority: str, kind: type[DistgradError], said: str
) -> None:
    own = {"certificate": pki / f"{name}.pem", "key": pki / f"{name}.key"} if name else {}
    tls = TLS(authority=pki / f"{authority}.pem", **own)
    with client(guarded.address, tls=tls, local=local, timeout=DEADLINE) as service, pytest.raises(kind, match=said):
        service["sine"](np.ones(2))


@pytest.mark.parametrize("local", [True, False])
def test_a_client_with_the_right_certificates_gets_in(guarded: Running, pki: Path, local: bool) -> None:
    tls = TLS(certificate=pki / "client.pem", key=pki / "client.key", authority=pki / "authority.pem")
    with client(guarded.address, tls=tls, local=local, timeout=DEADLINE) as service:
        np.testing.assert_array_equal(service["sine"](np.ones(2)), np.sin(np.ones(2)))


@pytest.mark.parametrize("name", ["server", "alice"])
def test_certificates_do_for_verifiers_that_are_strict(folders: dict[str, Path], name: str) -> None:
    ours = folders["ours"]
    asks, shows = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if name == "server":
        asks, shows = shows, asks
    asks.verify_mode, shows.check_hostname, shows.verify_mode = ssl.CERT_REQUIRED, False, ssl.CERT_NONE
    asks.verify_flags |= ssl.VERIFY_X509_STRICT  # Python 3.13's default
    asks.load_verify_locations(ours / "ca.pem")
    shows.load_cert_chain(ours / f"{name}.pem", ours / f"{name}-key.pem")
    other = "alice" if name == "server" else "server"
    asks.load_cert_chain(ours / f"{other}.pem", ours / f"{other}-key.pem")
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        context.wrap_bio(
            *bios,
            server_side=context.protocol == ssl.PROTOCOL_TLS_SERVER,
            server_hostname="localhost" if context.check_hostname else None,
        )
        for context, bios in ((asks, (here, there)), (shows, (there, here)))
    ]
    for _ in range(4):
        for end in ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    assert ends[0].getpeercert()["subject"] == ((("commonName", name),),)


def test_certificates_are_not_overwritten_and_keys_are_for_their_owner_alone(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        make_certificates(folders["ours"])
    assert (folders["ours"] / "server-key.pem").stat().st_mode & 0o077 == 0
