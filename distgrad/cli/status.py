"""`distgrad status`"""

from __future__ import annotations

import click

from distgrad.coordinator.client import Client
from distgrad.show.members import print_job, print_members
from distgrad.transport.settings import TransportSettings

from .options import link_options


@click.command()
@click.argument("address", metavar="HOST:PORT")
@link_options
def status(address: str, settings: TransportSettings) -> None:
    """Shows the workers of the cluster whose coordinator is at HOST:PORT, and the job that runs there."""
    with Client(address, settings) as client:
        print_members(client.workers)
        print_job(client.job)
