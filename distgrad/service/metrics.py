"""Numbers of a server, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from distgrad.errors import ConfigError, LinkError

from .failures import Code

# Upper bounds of a histogram's buckets, in seconds.
BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class NoMetrics:
    """For a server that nobody looks at."""

    def ended(self, function: str, body: str, code: Code, seconds: float) -> None:
        """Counts nothing."""

    def close(self) -> None:
        """There is nothing to close."""


class Metrics:
    """Counts what has ended, and answers HTTP requests for /metrics at a port of this machine's loopback interface.

    Arguments:
        counts: numbers of the moment.

    Raises:
        ConfigError: prometheus_client is not installed.
        LinkError: the port is taken.
    """

    def __init__(self, port: int, counts: Callable[[], dict[str, int]]) -> None:
        try:
            import prometheus_client as prometheus
            from prometheus_client.core import GaugeMetricFamily
        except ImportError:
            raise ConfigError("--metrics needs prometheus_client: pip install 'distgrad[service]'") from None
        registry = prometheus.CollectorRegistry()
        self._requests = prometheus.Counter(
            "distgrad_requests", "Requests that have ended.", ["function", "product", "code"], registry=registry
        )
        self._seconds = prometheus.Histogram(
            "distgrad_request_seconds",
            "From a request's arrival to its answer.",
            ["function", "product"],
            registry=registry,
            buckets=BUCKETS,
        )

        class Moment:
            def collect(self) -> Iterator[Any]:
                for name, number in counts().items():
                    yield GaugeMetricFamily(f"distgrad_service_{name}", f"{name} of the service now", number)

        registry.register(Moment())
        try:
            self._server, self._thread = prometheus.start_http_server(port, "127.0.0.1", registry)
        except OSError as error:
            raise LinkError(f"cannot listen at 127.0.0.1:{port} for metrics: {error.strerror or error}") from error
        self.port: int = self._server.server_port

    def ended(self, function: str, body: str, code: Code, seconds: float) -> None:
        self._requests.labels(function, body, code.name).inc()
        self._seconds.labels(function, body).observe(seconds)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
