"""Meters: what a server process counts and times, in the form that Prometheus reads.

Of several workers on one port whichever is asked answers with its own figures; `worker`, its process number, tells them apart.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # seconds
OWN = ("pipeline", "worker")
CONTENT_TYPE = CONTENT_TYPE_LATEST


@dataclass(frozen=True)
class Now:
    """How a server is at this moment: the version that answers, whether it is ready, and the prediction log's rows."""

    version: int | None
    ready: bool
    waiting: int
    written: int
    dropped: int


class _Moment(Collector):
    """What is read at the moment that somebody asks."""

    def __init__(self, own: tuple[str, str], look: Callable[[], Now]) -> None:
        self.own, self.look = own, look

    def collect(self) -> Iterator[Metric]:
        now = self.look()
        yield self._gauge("ratchet_model_version", "Version of the model that answers, 0 for none.", now.version or 0)
        yield self._gauge("ratchet_ready", "Whether the server answers predictions.", int(now.ready))
        yield self._gauge("ratchet_log_waiting_rows", "Predictions that are not on the disk yet.", now.waiting)
        for name, what, figure in (("written", "are on the disk", now.written), ("dropped", "were not kept", now.dropped)):
            family = CounterMetricFamily(f"ratchet_log_{name}_rows", f"Predictions that {what}.", labels=OWN)
            family.add_metric(self.own, figure)
            yield family

    def _gauge(self, name: str, what: str, figure: float) -> Metric:
        family = GaugeMetricFamily(name, what, labels=OWN)
        family.add_metric(self.own, figure)
        return family


class Meters:
    """The figures of one server process."""

    def __init__(self, pipeline: str, look: Callable[[], Now]) -> None:
        self.registry = CollectorRegistry()
        self._own = (pipeline, str(os.getpid()))
        self.requests = Counter("ratchet_requests", "Requests for predictions.", [*OWN, "version", "status"], registry=self.registry)
        self.rows = Counter("ratchet_rows", "Rows predicted.", [*OWN, "version"], registry=self.registry)
        self.seconds = Histogram(
            "ratchet_request_seconds", "Time of a request for predictions.", OWN, buckets=BOUNDS, registry=self.registry
        )
        self.registry.register(_Moment(self._own, look))

    def count(self, version: int | None, status: int, rows: int, seconds: float) -> None:
        """Count a request for predictions."""
        told = str(version or 0)
        self.requests.labels(*self._own, told, str(status)).inc()
        self.rows.labels(*self._own, told).inc(rows)
        self.seconds.labels(*self._own).observe(seconds)

    def text(self) -> bytes:
        """Give the figures as Prometheus reads them."""
        return generate_latest(self.registry)
