"""Why a TLS connection does not come about: gRPC says no more than that the other side has closed it."""

from __future__ import annotations

import socket
import ssl

from distgrad.errors import DistgradError, LinkError, PermissionDenied

from .addresses import unix_address
from .credentials import ssl_context
from .settings import TLS

# Of a handshake, in memory, of two sides that do as little as can be: so many turns are enough.
_TURNS = 8


def tls_trouble(address: str, tls: TLS, timeout: float) -> DistgradError | None:
    """Tries a connection with the same files, and says what is wrong with them.

    Arguments:
        address: of a gRPC server.
        timeout: seconds to wait for the other side, each time.

    Returns:
        PermissionDenied: our certificate does not hold for the other side.
        LinkError: its own does not hold for us, or it does not speak TLS as we do.
        None: TLS is not why there is no connection.
    """
    if unix_address(address) is not None:
        return None
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    context = ssl_context(ssl.PROTOCOL_TLS_CLIENT, tls)
    context.set_alpn_protocols(["h2"])
    try:
        plain = socket.create_connection((host, int(port)), timeout)
    except OSError:
        return None
    with plain:
        try:
            with context.wrap_socket(plain, server_hostname=tls.server_name or host) as stream:
                # Only now does the other side look at our certificate; a server of gRPC that accepts it speaks first.
                accepted = bool(stream.recv(1))
        except ssl.SSLCertVerificationError as error:
            return LinkError(f"the certificate of {address} does not hold: {error.verify_message}")
        except TimeoutError:
            return None
        except ssl.SSLError as error:
            return LinkError(f"{address} does not speak TLS as we do: {error.reason or error}")
        except OSError:
            accepted = False
    return None if accepted else PermissionDenied(f"{address} refuses this client: {_of_ours(tls)}")


def _of_ours(tls: TLS) -> str:
    if tls.certificate is None:
        return "it wants a certificate, and none was given"
    flaw = _flaw(tls)
    return f"it does not accept the certificate {tls.certificate}{': ' + flaw if flaw else ''}"


def _flaw(tls: TLS) -> str:
    """What a server with our authority says of our certificate: a handshake within this process."""
    if tls.authority is None:
        return ""
    server_context = ssl_context(ssl.PROTOCOL_TLS_SERVER, tls)
    client_context = ssl_context(ssl.PROTOCOL_TLS_CLIENT, tls)
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(there, back, server_side=True)
    client = client_context.wrap_bio(back, there)
    for _ in range(_TURNS):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
    return ""
