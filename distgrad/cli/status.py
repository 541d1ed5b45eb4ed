"""`distgrad status`"""

from __future__ import annotations

import click

from distgrad.coordinator.client import Client
from distgrad.show.members import print_job, print_members
from distgrad.transport.settings import TransportSettings

from .options import member_options


@click.command()
@click.argument("address", metavar="HOST:PORT")
@member_options
def status(address: str, settings: TransportSettings) -> None:
    """Shows the workers of the cluster whose coordinator is at HOST:PORT, and the job that runs there.

    Of each worker: the contexts it takes part in, the values it keeps for others and the calls it waits for, all zero
    when nothing goes on; its links; and, from its system, its threads, its open files and sockets, and its memory.
    """
    with Client(address, settings) as client:
        print_members(client.workers)
        print_job(client.job)
