"""The command `distgrad`. A file for each subcommand, imported when it is asked for; what they do is elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from distgrad.cluster.signals import Interrupted
from distgrad.errors import DistgradError

#: Subcommands: modules of this folder, each with a click command of the same name.
COMMANDS = (
    "train",
    "graph",
    "simulate",
    "bench",
    "coordinator",
    "worker",
    "serve",
    "certs",
    "call",
    "check",
    "status",
    "health",
)

# What shells make of a process that Ctrl-C has ended.
EXIT_INTERRUPTED = 130


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f".{name}", __package__), name)
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="distgrad")
def distgrad() -> None:
    """Differentiate and train programs whose pieces live on different machines."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command line and ends the process. Errors that have an explanation are shown without a traceback."""
    try:
        sys.exit(distgrad.main(arguments, prog_name="distgrad", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, Interrupted, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Nobody reads what we print any more; Python would complain about it when it flushes the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (DistgradError, OSError) as error:
        click.secho("error: ", fg="red", bold=True, nl=False, err=True)
        click.echo(str(error), err=True)
        sys.exit(1)
