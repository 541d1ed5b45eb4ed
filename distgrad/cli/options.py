"""Options that subcommands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from distgrad.transport.settings import TLS, Lossy, TransportSettings
from distgrad.wire.encodings import ENCODINGS

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
LOSSY = click.Choice(ENCODINGS)


def link_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options for links; it receives them as `settings`, a TransportSettings."""

    @click.option("--cluster", metavar="NAME", default="distgrad", show_default=True, help="Name of the cluster.")
    @click.option("--token-file", type=FILE, help="File with the cluster's token.")
    @click.option("--tls-authority", type=FILE, help="Certificates that vouch for peers, in PEM.")
    @click.option("--tls-certificate", type=FILE, help="Certificate of this process, in PEM.")
    @click.option("--tls-key", type=FILE, help="Its key.")
    @click.option("--insecure", is_flag=True, help="Leave this machine without TLS, over a network you trust.")
    @click.option("--lossy-values", type=LOSSY, help="Send values of calls with fewer digits.")
    @click.option("--lossy-gradients", type=LOSSY, help="Send gradients so, with error feedback.")
    @wraps(command)
    def with_settings(
        *,
        cluster: str,
        token_file: Path | None,
        tls_authority: Path | None,
        tls_certificate: Path | None,
        tls_key: Path | None,
        insecure: bool,
        lossy_values: str | None,
        lossy_gradients: str | None,
        **others: Any,
    ) -> Any:
        tls = None
        if tls_authority or tls_certificate or tls_key:
            tls = TLS(certificate=tls_certificate, key=tls_key, authority=tls_authority)
        token = token_file.read_text().strip() if token_file else ""
        lossy = Lossy(values=lossy_values or "", gradients=lossy_gradients or "")
        settings = TransportSettings(cluster=cluster, token=token, tls=tls, insecure=insecure, lossy=lossy)
        return command(settings=settings, **others)

    return with_settings
