"""The subcommands, and what becomes of their errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from distgrad import __version__
from distgrad.cluster.signals import Interrupted
from distgrad.errors import DistgradError

#: Subcommands: modules of this folder, each with a click command of the same name, and what `--help` says of them.
COMMANDS = {
    "train": "Train a job on worker processes, a cluster, or Ray.",
    "graph": "Show the global graph of a job.",
    "simulate": "Predict what each pipeline schedule makes of a job.",
    "bench": "Measure calls, backward passes and transfers.",
    "coordinator": "Run the coordinator of a cluster.",
    "worker": "Run a worker of a cluster.",
    "serve": "Publish functions: their values and derivatives.",
    "certs": "Make certificates for development.",
    "call": "Ask a service for a value or a derivative.",
    "check": "Test the derivatives of a served function.",
    "status": "Show the workers of a cluster, and its job.",
    "health": "Ask whether a coordinator or worker serves.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f".{name}", __package__), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def distgrad() -> None:
    """Differentiate and train programs whose pieces live on different machines."""


def run(arguments: Sequence[str] | None) -> NoReturn:
    """Runs a command line and ends the process. Errors that have an explanation are shown without a traceback.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    try:
        sys.exit(distgrad.main(arguments, prog_name="distgrad", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (Interrupted, click.Abort):
        raise KeyboardInterrupt from None
    except BrokenPipeError:
        # Nobody reads what we print any more; Python would complain about it when it flushes the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (DistgradError, OSError) as error:
        click.secho("error: ", fg="red", bold=True, nl=False, err=True)
        click.echo(str(error), err=True)
        sys.exit(1)
