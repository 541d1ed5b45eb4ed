"""Certificates for development: an authority of one's own, and what it vouches for."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distgrad.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

DAYS = 365
MAX_DAYS = 36500

_FILE_NAME = re.compile(r"[^\W_][\w.@-]{0,63}")  # X.509 allows common names of 64 characters
_HOST_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")


@dataclass(frozen=True)
class _Issued:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_certificates(
    folder: Path,
    hosts: Sequence[str] = ("localhost", "127.0.0.1", "::1"),
    clients: Sequence[str] = ("client",),
    days: int = DAYS,
) -> list[Path]:
    """Makes an authority and certificates of a server and of clients, in PEM.

    Arguments:
        folder: made if need be. Gets ca.pem, server.pem, server-key.pem, and NAME.pem and NAME-key.pem for each client;
            not the authority's key, which is forgotten: to add one, make all anew.
        hosts: names and addresses at which the server is reached.
        clients: names of clients, by which the server tells them apart.
        days: how long they are valid.

    Raises:
        ConfigError: `cryptography` is not installed, there are such files already, or a name or the number of days will
            not do.
        OSError: the folder cannot be written.
    """
    if not 1 <= days <= MAX_DAYS:
        raise ConfigError(f"certificates are valid for 1 to {MAX_DAYS} days, found {days}")
    for name in clients:
        if name in ("ca", "server") or not _FILE_NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} cannot name a client, whose files are called so: expected letters, digits, '-', '_', '.' "
                "or '@', the first a letter or a digit, and neither 'ca' nor 'server'"
            )
    try:
        authority = _issue("distgrad development authority", None, [], days)
    except ImportError:
        raise ConfigError("certificates need `cryptography`: pip install 'distgrad[service]'") from None
    made = {"server": _issue("server", authority, hosts, days)}
    made |= {name: _issue(name, authority, [], days) for name in clients}
    folder.mkdir(parents=True, exist_ok=True)
    written = [_write(folder / "ca.pem", _certificate_pem(authority), 0o644)]
    for name, issued in made.items():
        written.append(_write(folder / f"{name}.pem", _certificate_pem(issued), 0o644))
        written.append(_write(folder / f"{name}-key.pem", _key_pem(issued), 0o600))
    return written


def _issue(name: str, authority: _Issued | None, hosts: Sequence[str], days: int) -> _Issued:
    """A certificate and its key; an authority's own when there is no authority.

    It has all that strict verifiers ask for (RFC 5280, 4.2.1), among them Python's own from 3.13 on.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    issuer = authority.key if authority else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
        .add_extension(_key_usage(authority is None), critical=True)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    if authority is not None:
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return _Issued(builder.sign(issuer, hashes.SHA256()), key)


def _key_usage(authority: bool) -> Any:
    """An authority's key signs certificates, all others sign handshakes."""
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> Any:
    from cryptography import x509

    with suppress(ValueError):  # a name, then
        return x509.IPAddress(ipaddress.ip_address(host))
    if not _HOST_NAME.fullmatch(host):
        raise ConfigError(
            f"{host!r} is no name or address of a host; a name has letters from a to z, digits, '-' and '.'"
        )
    return x509.DNSName(host)


def _certificate_pem(issued: _Issued) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return issued.certificate.public_bytes(Encoding.PEM)


def _key_pem(issued: _Issued) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes, mode: int) -> Path:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise ConfigError(f"{path} exists already: name another folder, or remove it") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return path
