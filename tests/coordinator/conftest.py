"""What the tests of the coordinator share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from distgrad.coordinator.client import Client
from tests.coordinator.cluster import PROGRAMS, Cluster, cluster


@pytest.fixture
def pair() -> Iterator[tuple[Cluster, Client]]:
    """A cluster with workers w0 and w1, and a client of it."""
    with cluster(PROGRAMS, "w0", "w1") as made:
        yield made
