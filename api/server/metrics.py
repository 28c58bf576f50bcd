"""What Prometheus scrapes at /metrics: requests, bytes, deduplication, coding, queues, totals."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from ...dedup.errors import VaultError
from ...dedup.reading.timed_codecs import DECODING, ENCODING
from ...store.catalogue.reports.statistics import count_waiting, last_day
from ..requests.access import monitors, needs
from ..requests.exchange import Exchange
from ..requests.slots import Slots
from ..v1.documented import FAILURES

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ...dedup.local_vault import LocalVault

_log = logging.getLogger("weightvault.api")

# From a health check to an upload that is decoded first.
_SECONDS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0)
_OTHER = "other"
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}

router = APIRouter(tags=["vault"], responses=FAILURES, dependencies=needs(monitors))


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(request: Request) -> Response:
    """Gives counters and gauges in Prometheus' text format."""
    state = request.app.state
    body = await to_thread.run_sync(generate_latest, state.metrics.registry, limiter=state.probes)
    return Response(body, media_type=CONTENT_TYPE_LATEST)


class Metrics:
    """The metrics of one application; labels are methods, routes as the API describes them, and
    status codes, so that there are only so many."""

    def __init__(self, app: FastAPI) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.registry.register(_State(app))
        on_route = ("method", "route")
        self.requests = self._counter("requests", "Requests answered", (*on_route, "status"))
        self.received = self._counter("received_bytes", "Bytes of request bodies", on_route)
        self.sent = self._counter("sent_bytes", "Bytes of response bodies", on_route)
        self.chunks_asked = self._counter("chunks_asked", "Chunks clients asked about")
        self.chunks_known = self._counter("chunks_known", "Chunks of those stored already")
        self.frames_added = self._counter("frames_added", "Frames of new chunks taken in")
        self.seconds = Histogram(
            *("weightvault_request_seconds", "Time from request to last byte", on_route),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.under_way = Gauge(
            "weightvault_requests_under_way", "Requests not answered yet", registry=self.registry
        )

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"weightvault_{name}", text, labels, registry=self.registry)

    def count_exchange(self, exchange: Exchange) -> None:
        """Counts a request that was answered, and its bytes."""
        scope, status = exchange.scope, str(exchange.status or "none")
        # Only now is it known which route took it.
        labels = _method(scope), getattr(scope.get("route"), "path_format", _OTHER)
        self.requests.labels(*labels, status).inc()
        self.received.labels(*labels).inc(exchange.received)
        self.sent.labels(*labels).inc(exchange.sent)
        self.seconds.labels(*labels).observe(exchange.seconds)


class _State(Collector):
    """What is looked up when it is asked for: coding, queues, and the vault's last totals."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def describe(self) -> Iterator[Metric]:
        """Names nothing ahead: the vault need not be there when the application is made."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yields what is known; where the catalogue does not answer, the rest."""
        yield from _coding()
        yield from self._connections()
        held = self._app.state.downloads.held_bytes
        yield GaugeMetricFamily("weightvault_download_bytes", "Held for downloads", value=held)
        try:
            yield from [*self._queues(self._app.state.vault), *_totals(self._app.state.vault)]
        except VaultError as error:
            _log.warning("metrics lack what the catalogue knows: %s", error.message)

    def _connections(self) -> Iterator[Metric]:
        connections = getattr(self._app.state, "connections", None)
        if connections is None:
            return
        yield GaugeMetricFamily(
            "weightvault_connections", "Open connections", value=len(connections)
        )
        closed = CounterMetricFamily(
            "weightvault_connections_closed", "Connections that were closed", labels=["reason"]
        )
        for reason, count in connections.closed.items():
            closed.add_metric([reason], count)
        yield closed

    def _queues(self, vault: LocalVault) -> Iterator[Metric]:
        length = GaugeMetricFamily(
            "weightvault_queue_length", "What waits for its turn", labels=["queue"]
        )
        checking: Slots = self._app.state.checking
        length.add_metric(["checking"], checking.waiting)
        for name, count in count_waiting(vault.catalogue).items():
            length.add_metric([name], count)
        yield length
        busy = checking.busy
        yield GaugeMetricFamily("weightvault_checking_busy", "Packs being checked", value=busy)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else _OTHER


def _coding() -> Iterator[Metric]:
    clocks = {"encode": ENCODING, "decode": DECODING}
    for name, text in (
        ("seconds", "Seconds spent coding, of all threads"),
        ("frames", "Frames coded"),
        ("raw_bytes", "Raw bytes coded"),
    ):
        family = CounterMetricFamily(f"weightvault_codec_{name}", text, labels=["direction"])
        for direction, clock in clocks.items():
            family.add_metric([direction], getattr(clock, name))
        yield family


def _totals(vault: LocalVault) -> Iterator[Metric]:
    """The sums that were last put on record: adding them up takes seconds in a large vault."""
    day = last_day(vault.catalogue)
    if day is None:
        return
    for name, value, text in (
        ("logical_bytes", day.logical, "Files of all commits as plain files"),
        ("unique_bytes", day.unique, "Distinct chunks, raw"),
        ("frame_bytes", day.frames, "Frames that something needs"),
        ("stored_bytes", day.stored, "What the object store holds"),
        ("repos", day.repos, "Repos"),
        ("commits", day.commits, "Commits"),
        ("totals_timestamp_seconds", day.at, "When these totals were added up"),
    ):
        yield GaugeMetricFamily(f"weightvault_{name}", text, value=value)
