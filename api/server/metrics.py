"""What Prometheus scrapes at /metrics: requests, bytes, deduplication, coding, queues, totals."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
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
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
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
# What other processes tell of this one is so old.
_NOTE_SECONDS = 1.0
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}

router = APIRouter(tags=["vault"], responses=FAILURES, dependencies=needs(monitors))


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(request: Request) -> Response:
    """Gives counters and gauges in Prometheus' text format."""
    state = request.app.state
    state.metrics.note()
    body = await to_thread.run_sync(generate_latest, state.metrics.registry, limiter=state.probes)
    return Response(body, media_type=CONTENT_TYPE_LATEST)


class Metrics:
    """The metrics of one application; labels are methods, routes as the API describes them, and
    status codes, so that there are only so many.

    Where processes share the port (`shared`), each answers with the sums of all: prometheus_client
    keeps the numbers in files then, in the folder that PROMETHEUS_MULTIPROC_DIR names.
    """

    def __init__(self, app: FastAPI, *, shared: bool = False) -> None:
        self.registry = CollectorRegistry()
        self._shared = shared
        # What is exposed of shared numbers is their sum, and not what this process has of them.
        self._own = None if self._shared else self.registry
        if self._shared:
            MultiProcessCollector(self.registry)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.registry.register(_Kept(app))
        self.coding = CodingMetrics(self._own)
        self._state = _State(app, self._own)
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
            registry=self._own,
        )
        self.under_way = _gauge("requests_under_way", "Requests not answered yet", (), self._own)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"weightvault_{name}", text, labels, registry=self._own)

    def count_exchange(self, exchange: Exchange) -> None:
        """Counts a request that was answered, and its bytes."""
        scope, status = exchange.scope, str(exchange.status or "none")
        # Only now is it known which route took it.
        labels = _method(scope), getattr(scope.get("route"), "path_format", _OTHER)
        self.requests.labels(*labels, status).inc()
        self.received.labels(*labels).inc(exchange.received)
        self.sent.labels(*labels).inc(exchange.sent)
        self.seconds.labels(*labels).observe(exchange.seconds)

    def note(self) -> None:
        """Puts down how much is held and was coded, up to this moment."""
        self.coding.note()
        self._state.note()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Within, other processes know how things stand here, if there are others."""
        if not self._shared:
            yield
            return
        async with noting(self.note):
            yield


@asynccontextmanager
async def noting(note: Callable[[], None]) -> AsyncIterator[None]:
    """Within, `note` is called every second or so, and once more at the end."""
    task = asyncio.create_task(_note_repeatedly(note))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        note()


async def _note_repeatedly(note: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(_NOTE_SECONDS)
        note()


class CodingMetrics:
    """How much this process has coded; `registry` is None where others add theirs."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self._counters = {
            name: Counter(f"weightvault_codec_{name}", text, ("direction",), registry=registry)
            for name, text in (
                ("seconds", "Seconds spent coding, of all threads"),
                ("frames", "Frames coded"),
                ("raw_bytes", "Raw bytes coded"),
            )
        }
        self._counted: dict[tuple[str, str], float] = {}
        self.note()

    def note(self) -> None:
        """Puts down what was coded up to now."""
        for direction, clock in (("encode", ENCODING), ("decode", DECODING)):
            for name, counter in self._counters.items():
                value, key = getattr(clock, name), (name, direction)
                counter.labels(direction).inc(value - self._counted.get(key, 0))
                self._counted[key] = value


class _State:
    """What this process holds."""

    def __init__(self, app: FastAPI, registry: CollectorRegistry | None) -> None:
        self._app = app
        self._held = _gauge("download_bytes", "Held for downloads", (), registry)
        self._busy = _gauge("checking_busy", "Packs being checked", (), registry)
        self._waiting = _gauge("checking_waiting", "Packs that wait to be checked", (), registry)
        self._connections = _gauge("connections", "Open connections", (), registry)
        self._closed = Counter(
            *("weightvault_connections_closed", "Connections that were closed", ("reason",)),
            registry=registry,
        )
        self._counted: dict[str, int] = {}

    def note(self) -> None:
        """Puts down how things stand."""
        state = self._app.state
        checking: Slots = state.checking
        self._held.set(state.downloads.held_bytes)
        self._busy.set(checking.busy)
        self._waiting.set(checking.waiting)
        connections = getattr(state, "connections", None)
        if connections is None:
            return
        self._connections.set(len(connections))
        for reason, count in connections.closed.items():
            self._closed.labels(reason).inc(count - self._counted.get(reason, 0))
            self._counted[reason] = count


class _Kept(Collector):
    """What the catalogue knows, the same for all processes: queues, and the vault's last totals."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def describe(self) -> Iterator[Metric]:
        """Names nothing ahead: the vault need not be there when the application is made."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yields what is known, nothing where the catalogue does not answer."""
        vault: LocalVault = self._app.state.vault
        try:
            yield from [_queues(vault), *_totals(vault)]
        except VaultError as error:
            _log.warning("metrics lack what the catalogue knows: %s", error.message)


def _gauge(
    name: str, text: str, labels: tuple[str, ...], registry: CollectorRegistry | None
) -> Gauge:
    full = f"weightvault_{name}"
    return Gauge(full, text, labels, registry=registry, multiprocess_mode="livesum")


def _queues(vault: LocalVault) -> Metric:
    length = GaugeMetricFamily(
        "weightvault_queue_length", "What waits for its turn", labels=["queue"]
    )
    for name, count in count_waiting(vault.catalogue).items():
        length.add_metric([name], count)
    return length


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else _OTHER


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
