"""The small network, in processes that a test ends at boundaries of the protocol: see `tests/faults/boundaries.py`."""

from __future__ import annotations

from tests.faults.boundaries import install

from . import net

install()

# Workers load the shards from here, and the coordinator the data.
Stage = type("Stage", (net.Stage,), {"__module__": __name__})
Head = type("Head", (net.Head,), {"__module__": __name__})
Points = type("Points", (net.Points,), {"__module__": __name__})
