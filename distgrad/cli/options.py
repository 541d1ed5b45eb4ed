"""Options that subcommands share. Each may be given by an environment variable instead, so that one file of them serves
all commands of a node."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from distgrad.errors import ConfigError
from distgrad.transport.settings import TLS, Lossy, TransportSettings
from distgrad.wire.encodings import ENCODINGS

from .kinds import FILE, SECONDS, SOME_SECONDS

_MEMBER = (
    click.option(
        "--cluster-name",
        metavar="NAME",
        default="distgrad",
        show_default=True,
        envvar="DISTGRAD_CLUSTER_NAME",
        help="Name of the cluster.",
    ),
    click.option(
        "--token-file",
        type=FILE,
        envvar="DISTGRAD_TOKEN_FILE",
        help="File with the cluster's token.  [default: the token in DISTGRAD_TOKEN]",
    ),
)
_TLS = (
    click.option(
        "--tls-authority",
        type=FILE,
        envvar="DISTGRAD_TLS_AUTHORITY",
        help="Certificates that vouch for peers, in PEM.",
    ),
    click.option(
        "--tls-certificate",
        type=FILE,
        envvar="DISTGRAD_TLS_CERTIFICATE",
        help="Certificate of this process, in PEM.",
    ),
    click.option("--tls-key", type=FILE, envvar="DISTGRAD_TLS_KEY", help="Its key."),
    click.option(
        "--tls-server-name",
        metavar="NAME",
        default="",
        envvar="DISTGRAD_TLS_SERVER_NAME",
        help="Name to expect in certificates of listeners.  [default: the host in their address]",
    ),
    click.option(
        "--insecure",
        is_flag=True,
        envvar="DISTGRAD_INSECURE",
        help="Leave this machine without TLS, over a network you trust.",
    ),
)
_LOSSY = (
    click.option(
        "--lossy-values",
        type=click.Choice(ENCODINGS),
        envvar="DISTGRAD_LOSSY_VALUES",
        help="Send large arrays of floats to other processes with fewer digits.",
    ),
    click.option(
        "--lossy-gradients",
        type=click.Choice(ENCODINGS),
        envvar="DISTGRAD_LOSSY_GRADIENTS",
        help="Send gradients so; what is left out of one is added to the next.",
    ),
)

health_option = click.option(
    "--insecure-health",
    "health",
    metavar="HOST:PORT",
    default="",
    envvar="DISTGRAD_INSECURE_HEALTH",
    help="Answer health checks there too, in the clear, and nothing else: for probes that know no TLS.",
)


def link_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options for links; it receives them as `settings`, a TransportSettings."""
    return _with_settings(command, (*_MEMBER, *_TLS, *_LOSSY))


def member_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a command that sends no arrays."""
    return _with_settings(command, (*_MEMBER, *_TLS))


def probe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a command that talks to listeners without being a member."""
    return _with_settings(command, _TLS)


def _with_settings(command: Callable[..., Any], options: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    @wraps(command)
    def with_settings(
        *,
        cluster_name: str = "distgrad",
        token_file: Path | None = None,
        tls_authority: Path | None,
        tls_certificate: Path | None,
        tls_key: Path | None,
        tls_server_name: str,
        insecure: bool,
        lossy_values: str | None = None,
        lossy_gradients: str | None = None,
        **others: Any,
    ) -> Any:
        tls = None
        if tls_authority or tls_certificate or tls_key:
            tls = TLS(certificate=tls_certificate, key=tls_key, authority=tls_authority, server_name=tls_server_name)
        token = _token(token_file)
        lossy = Lossy(values=lossy_values or "", gradients=lossy_gradients or "")
        settings = TransportSettings(cluster=cluster_name, token=token, tls=tls, insecure=insecure, lossy=lossy)
        return command(settings=settings, **others)

    decorated: Callable[..., Any] = with_settings
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


_SERVICE = (
    click.option(
        "--token-file",
        type=FILE,
        envvar="DISTGRAD_TOKEN_FILE",
        help="File with a token of the service.  [default: the token in DISTGRAD_TOKEN]",
    ),
    click.option("--tls-ca", type=FILE, envvar="DISTGRAD_TLS_CA", help="Certificates that vouch for it, in PEM."),
    click.option("--tls-cert", type=FILE, envvar="DISTGRAD_TLS_CERT", help="Certificate of this client, in PEM."),
    click.option("--tls-key", type=FILE, envvar="DISTGRAD_TLS_KEY", help="Its key."),
    click.option(
        "--insecure",
        is_flag=True,
        envvar="DISTGRAD_INSECURE",
        help="Leave this machine without TLS, over a network you trust.",
    ),
    click.option(
        "--timeout", type=SOME_SECONDS, metavar="SECONDS", default=60.0, show_default=True, help="For an answer."
    ),
    click.option(
        "--connect-timeout",
        type=SECONDS,
        metavar="SECONDS",
        default=10.0,
        show_default=True,
        help="For a server that is starting.",
    ),
)


def service_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command whose argument `service` is an address the options for gradient services; it receives a client
    instead, which is closed when it returns."""

    @wraps(command)
    def with_client(
        *,
        service: str,
        token_file: Path | None,
        tls_ca: Path | None,
        tls_cert: Path | None,
        tls_key: Path | None,
        insecure: bool,
        timeout: float,
        connect_timeout: float,
        **others: Any,
    ) -> Any:
        from distgrad.service.client import client

        tls = TLS(certificate=tls_cert, key=tls_key, authority=tls_ca) if tls_ca or tls_cert or tls_key else None
        token = _token(token_file)
        opened = client(
            service, token=token, tls=tls, insecure=insecure, timeout=timeout, connect_timeout=connect_timeout
        )
        with opened:
            return command(service=opened, **others)

    decorated: Callable[..., Any] = with_client
    for option in reversed(_SERVICE):
        decorated = option(decorated)
    return decorated


def _token(file: Path | None) -> str:
    if file is None:
        return os.environ.get("DISTGRAD_TOKEN", "")
    token = file.read_bytes().strip()
    # Without a token, whoever reaches a listener would be let in.
    if not token or not token.isascii():
        raise ConfigError(f"{file} holds no token: expected some letters and digits")
    return token.decode()
