"""A run of training while it happens: a bar on a terminal, plain lines elsewhere, JSON for programs.

A display is called with every event of `distgrad.cluster.supervise.train`. `with display(...) as show:` leaves the
terminal as it was.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Event = Mapping[str, Any]
Show = Callable[[Event], None]

# Seconds between two plain lines about steps.
_BETWEEN_LINES = 1.0


@contextmanager
def quiet(console: Console) -> Iterator[Show]:
    """The last line alone."""

    def show(event: Event) -> None:
        if event["event"] == "done":
            _print(console, summary(event))

    yield show


@contextmanager
def json_lines(console: Console) -> Iterator[Show]:
    """Every event, a JSON object a line."""
    yield lambda event: _print(console, json.dumps(event))


@contextmanager
def plain(console: Console) -> Iterator[Show]:
    """Lines, about one a second."""
    latest = -_BETWEEN_LINES

    def show(event: Event) -> None:
        nonlocal latest
        if event["event"] == "step":
            last = event["step"] == event["steps"]
            if not last and time.monotonic() - latest < _BETWEEN_LINES:
                return
            latest = time.monotonic()
        if line := _line(event):
            _print(console, line)

    yield show


@contextmanager
def bar(console: Console) -> Iterator[Show]:
    """A bar with the newest loss and accuracy; what is saved and the rest as lines above it."""
    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[numbers]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("train", total=None, numbers="starting")
        loss = measured = ""

        def show(event: Event) -> None:
            nonlocal loss, measured
            match event["event"]:
                case "step":
                    loss = f"loss {event['loss']:.4f}  {event['rate']:.0f} steps/s"
                    progress.update(task, completed=event["step"], total=event["steps"], numbers=loss + measured)
                case "evaluated":
                    measured = f"  {_measured(event)}"
                    progress.update(task, numbers=loss + measured)
                case _ if line := _line(event):
                    _print(progress.console, line)

        yield show


DISPLAYS = {"quiet": quiet, "json": json_lines, "plain": plain, "bar": bar}


def summary(done: Event) -> str:
    """The last line of a run."""
    parts = [f"loss {done['loss']:.4f}"]
    if done["held_out_loss"] is not None:
        parts = [_measured({"loss": done["held_out_loss"], "accuracy": done["accuracy"]})]
    parts += [f"{done['seconds']:.1f} s", f"{done['steps_per_second']:.1f} steps/s"]
    parts += [f"{done['bytes_sent'] / 1e6:.1f} MB sent by workers"]
    if done["checkpoint"]:
        parts.append(f"checkpoint {_short(done['checkpoint'])}")
    return "done: " + ", ".join(parts)


def _line(event: Event) -> str:
    """An event in words; empty for one that is not shown."""
    match event["event"]:
        case "job":
            return str(event["text"])
        case "ready":
            place = f" at {event['address']}" if "address" in event else ""
            return f"worker {event['worker']} is ready (process {event['process']}{place})"
        case "placed":
            return f"shards placed: {', '.join(event['shards'])}"
        case "resumed":
            return f"continuing after step {event['step']} from {_short(event['checkpoint'])}"
        case "step":
            return f"step {event['step']}/{event['steps']}  loss {event['loss']:.4f}  {event['rate']:.0f} steps/s"
        case "evaluated":
            return f"step {event['step']}  {_measured(event)}"
        case "notice":
            return f"note: {event['text']}"
        case "sample":
            return f"sample:\n{event['text']}"
        case "saved":
            return f"step {event['step']}  saved {_short(event['checkpoint'])}"
        case "failure":
            reason = str(event["reason"]).partition("\n")[0]
            return f"{reason} (failure {event['failures']} of the {event['max_failures']} that are survived)"
        case "recovered":
            source = event["source"] if not event["checkpoint"] else _short(event["checkpoint"])
            return f"recovered from {source} in {event['seconds']:.1f} s: going on after step {event['step']}"
        case "done":
            return summary(event)
        case _:
            return ""


def _measured(event: Event) -> str:
    """What an evaluation has come to."""
    accuracy = "" if event["accuracy"] is None else f", accuracy {event['accuracy']:.1%}"
    return f"held-out loss {event['loss']:.4f}{accuracy}"


def _print(console: Console, text: str) -> None:
    """As it is: no markup, no colours guessed from the words, no wrapping."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _short(path: str) -> str:
    """A path as seen from here, when it is not elsewhere."""
    here = Path.cwd()
    return os.path.relpath(path, here) if Path(path).is_relative_to(here) else path
