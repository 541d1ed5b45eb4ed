"""`distgrad health`"""

from __future__ import annotations

import click

from distgrad.transport.grpc_health import is_serving
from distgrad.transport.health import SERVES
from distgrad.transport.settings import TransportSettings

from .kinds import SOME_SECONDS
from .options import probe_options


@click.command()
@click.argument("address", metavar="HOST:PORT")
@click.option("--service", default=SERVES, show_default=True, help="What to ask about; empty: whether it runs.")
@click.option("--timeout", metavar="SECONDS", type=SOME_SECONDS, default=5.0, show_default=True, help="For an answer.")
@probe_options
def health(address: str, service: str, timeout: float, settings: TransportSettings) -> int:
    """Asks a coordinator or worker whether it serves its cluster; exits with 0 when it does. Needs no token."""
    serving = is_serving(address, settings, service, timeout)
    click.echo("serving" if serving else "not serving")
    return 0 if serving else 1
