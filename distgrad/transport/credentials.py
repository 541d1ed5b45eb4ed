"""What the settings of TLS mean to those who speak it: Python's `ssl`, and gRPC, which says no more of files that it
cannot use than that it cannot listen, or reach anybody. gRPC is imported by whoever asks for its terms: the other lanes
do without."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from distgrad.errors import ConfigError

from .settings import TLS

if TYPE_CHECKING:
    import grpc


def ssl_context(protocol: int, tls: TLS) -> ssl.SSLContext:
    """TLS in the terms of `ssl`.

    Raises:
        ConfigError: a file does not hold what it should.
    """
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.certificate is not None:
        try:
            # Without a password, a key that has one asks for it at the terminal.
            context.load_cert_chain(tls.certificate, tls.key, password="")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"tls: the certificate {tls.certificate} with the key {tls.key} cannot be used ({error}): expected "
                "files in PEM that belong together, and a key without a passphrase"
            ) from error
    if tls.authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(tls.authority)
        except OSError as error:
            raise ConfigError(f"tls: {tls.authority} cannot be used ({error}): expected certificates in PEM") from error
    elif protocol == ssl.PROTOCOL_TLS_CLIENT:
        context.load_default_certs()
    return context


def server_credentials(tls: TLS) -> grpc.ServerCredentials:
    """The same for a server of gRPC, of files that have a certificate. Raises as `ssl_context` does."""
    import grpc

    ssl_context(ssl.PROTOCOL_TLS_SERVER, tls)
    assert tls.certificate is not None
    assert tls.key is not None
    authority = tls.authority.read_bytes() if tls.authority else None
    pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)


def channel_credentials(tls: TLS) -> grpc.ChannelCredentials:
    """The same for a client. Raises as `ssl_context` does."""
    import grpc

    ssl_context(ssl.PROTOCOL_TLS_CLIENT, tls)
    return grpc.ssl_channel_credentials(
        tls.authority.read_bytes() if tls.authority else None,
        tls.key.read_bytes() if tls.key else None,
        tls.certificate.read_bytes() if tls.certificate else None,
    )
