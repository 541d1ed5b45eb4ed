"""What a process says of its health to whoever asks: probes need no token, and learn nothing else."""

from __future__ import annotations

# What probes may ask about: that the process runs, and that it serves its cluster.
RUNS = ""
SERVES = "distgrad.v1.LinkService"


class Health:
    """Whether a process serves, by service. Safe to use from any thread.

    Arguments:
        service: the one besides that of running.
    """

    def __init__(self, service: str = SERVES) -> None:
        self._service = service
        self._serving = {RUNS: True, service: False}

    def serves(self, serving: bool) -> None:
        """From now on the process serves, or does not."""
        self._serving[self._service] = serving

    def of(self, service: str) -> bool | None:
        """Whether a service is served; None when there is none of that name."""
        return self._serving.get(service)

    def __repr__(self) -> str:
        return f"<Health {'serving' if self._serving[self._service] else 'not serving'}>"
