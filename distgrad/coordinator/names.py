"""Names as people read and mistype them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from distgrad.errors import ConfigError

# A coordinator has links with all of them, and takes some more than a thousand.
MOST_WORKERS = 1000
# What the other processes of a cluster are called by the program that starts it; no worker can be called so.
OF_THE_CLUSTER = frozenset({"coordinator", "driver", "trainer"})


def numbered_workers(count: int) -> tuple[str, ...]:
    """w0, w1, ... Raises ConfigError for more than a cluster can have."""
    if count > MOST_WORKERS:
        raise ConfigError(f"{count} workers: a cluster has at most {MOST_WORKERS}")
    return tuple(f"w{number}" for number in range(count))


def natural_order(name: str) -> tuple[tuple[str, int], ...]:
    """A sort key under which w2 comes before w10.

    Example:
        >>> sorted(["w10", "head", "w2"], key=natural_order)
        ['head', 'w2', 'w10']
    """
    return tuple((text, int(digits or -1)) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", name))


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown `word`; empty when no known word is close.

    Example:
        >>> "no shard is named 'steam'" + suggestion("steam", ["stem", "head"])
        "no shard is named 'steam'; did you mean 'stem'?"
    """
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
