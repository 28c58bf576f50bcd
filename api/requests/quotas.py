"""Holds callers to the quotas of namespaces, as far as that is no matter of a commit: what is being
uploaded, requests, CPU seconds of checks; and keeps a reserve of free disk for the server itself.

What commits take is held to in their transaction (store/catalogue/access/quotas.py). The rates here
are those of one server process: of several servers each allows as much.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ...dedup.errors import QuotaExceeded, StorageFull
from ...dedup.local_vault import LocalVault
from ...dedup.maintenance.quotas import find_limits
from ...store.catalogue.access.limits import Limits
from ...store.catalogue.access.quotas import read_usage, sum_in_flight
from ..errors import RateExceeded

_MINUTE = 60.0
# For as long as the parts of an upload may be added to.
_PARTS_SECONDS = 24 * 3600.0


@dataclass(slots=True)
class _Bucket:
    """What is left of a rate: it fills up within a minute, and may be overdrawn by what is known
    only afterwards."""

    left: float
    at: float

    def refill(self, most: float, now: float) -> None:
        """Adds what time has brought since it was looked at last."""
        self.left = min(most, self.left + (now - self.at) * most / _MINUTE)
        self.at = now


@dataclass(slots=True)
class _Sent:
    """Bytes of a namespace that are on their way: in bodies under way, and in parts that wait for
    the rest of their file: their bytes, and the time at which they are forgotten, by upload and
    number."""

    bodies: int = 0
    parts: dict[tuple[str, int], tuple[int, float]] = field(default_factory=dict)

    def total(self, now: float) -> int:
        """All of it."""
        self.parts = {part: kept for part, kept in self.parts.items() if kept[1] > now}
        return self.bodies + sum(size for size, _ in self.parts.values())


class Quotas:
    """The quotas of a vault as one server process holds callers to them. Safe to use from several
    threads. `reserve_bytes`: free disk below which nothing is taken in."""

    def __init__(
        self,
        vault: LocalVault,
        reserve_bytes: int = 0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.vault = vault
        self._reserve = reserve_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._requests: dict[str, _Bucket] = {}
        self._cpu: dict[str, _Bucket] = {}
        self._sent: dict[str, _Sent] = defaultdict(_Sent)

    def limits_of(self, namespace: str) -> Limits:
        """Returns the limits of a namespace."""
        return find_limits(self.vault, namespace)

    def count_request(self, namespace: str) -> None:
        """Counts a request. Raises RateExceeded beyond as many as the namespace may send."""
        most = self.limits_of(namespace).requests_per_minute
        if most is None:
            return
        with self._lock:
            bucket = self._bucket(self._requests, namespace, most)
            if bucket.left < 1:
                wait = _MINUTE if most == 0 else (1 - bucket.left) * _MINUTE / most
                raise RateExceeded(
                    f"{namespace} may send {most} requests a minute", retry_seconds=wait
                )
            bucket.left -= 1

    @contextmanager
    def checking(self, namespace: str) -> Iterator[None]:
        """Counts the CPU seconds that a thread takes within, which checks an upload. Raises
        RateExceeded where what came before took more than the namespace may."""
        most = self.limits_of(namespace).cpu_seconds_per_minute
        if most is None:
            yield
            return
        with self._lock:
            bucket = self._bucket(self._cpu, namespace, most)
            if bucket.left <= 0:
                wait = _MINUTE if most == 0 else (-bucket.left + 1) * _MINUTE / most
                raise RateExceeded(
                    f"checking uploads of {namespace} may take {most} CPU seconds a minute",
                    retry_seconds=wait,
                )
        start = time.thread_time()
        try:
            yield
        finally:
            with self._lock:
                bucket.left -= time.thread_time() - start

    def begin_body(self, namespace: str | None, announced: int) -> Body:
        """Returns what the bytes of a body of a namespace's caller (None: of nobody's) are counted
        with. Raises QuotaExceeded, StorageFull if those announced are too many."""
        body = Body(self, namespace)
        try:
            body.count(announced)
        except BaseException:
            body.end()
            raise
        return body

    def keep_part(self, namespace: str, upload: str, number: int, size: int) -> None:
        """Counts a part that waits for the rest of its file."""
        with self._lock:
            kept = size, self._clock() + _PARTS_SECONDS
            self._sent[namespace].parts[upload, number] = kept

    def drop_parts(self, namespace: str, upload: str) -> None:
        """Counts the parts of an upload no more."""
        with self._lock:
            sent = self._sent[namespace]
            sent.parts = {part: kept for part, kept in sent.parts.items() if part[0] != upload}

    def require_file(self, namespace: str, size: int) -> None:
        """Raises QuotaExceeded where a file of `size` bytes that a namespace does not have could
        not be uploaded or not be committed: before anything is sent in vain."""
        self.require_room(namespace, size)
        most = self.limits_of(namespace).logical
        if most is None:
            return
        used = read_usage(self.vault.catalogue, namespace).logical
        if used + size > most:
            raise QuotaExceeded(
                f"{namespace} may have {most} bytes of files and has {used}; this is {size} more",
                "delete repos that are not needed, or ask the operator for more",
            )

    def require_room(self, namespace: str, size: int) -> None:
        """Raises QuotaExceeded unless `size` more bytes may be sent for a namespace."""
        most = self.limits_of(namespace).in_flight
        if most is None:
            return
        stored = sum_in_flight(self.vault.catalogue, namespace, time.time())
        with self._lock:
            sent = self._sent[namespace].total(self._clock())
        if stored + sent + size > most:
            raise QuotaExceeded(
                f"{namespace} may have {most} bytes on their way into commits; "
                f"there are {stored + sent}, and this is {size} more",
                "commit what was uploaded, or wait until it is given up",
            )

    def require_disk(self, size: int) -> None:
        """Raises StorageFull unless `size` more bytes leave the reserve of the server alone."""
        if not self._reserve:
            return
        free = [shutil.disk_usage(self.vault.scratch).free, self.vault.backend.free_bytes()]
        if min(f for f in free if f is not None) - size < self._reserve:
            raise StorageFull(
                "the server's disk is nearly full", "tell its operator; then try again"
            )

    def add_bytes(self, namespace: str, size: int) -> None:
        """Counts bytes of bodies under way, negative ones where a body has ended."""
        with self._lock:
            self._sent[namespace].bodies += size

    def _bucket(self, buckets: dict[str, _Bucket], namespace: str, most: float) -> _Bucket:
        now = self._clock()
        bucket = buckets.setdefault(namespace, _Bucket(most, now))
        bucket.refill(most, now)
        return bucket


class Body:
    """The bytes of one request's body, counted before they are read or, where they were not
    announced, as they come."""

    def __init__(self, quotas: Quotas, namespace: str | None) -> None:
        self._quotas = quotas
        self._namespace = namespace
        self._counted = 0

    def count(self, size: int) -> None:
        """Counts `size` bytes in all. Raises QuotaExceeded, StorageFull if they are too many."""
        more = size - self._counted
        if more <= 0:
            return
        self._quotas.require_disk(more)
        if self._namespace is None:
            self._counted = size
            return
        # Counted first: of two at the same moment at least one sees the other.
        self._quotas.add_bytes(self._namespace, more)
        self._counted = size
        self._quotas.require_room(self._namespace, 0)

    def end(self) -> None:
        """Counts them no more: they are on record by now, or nowhere."""
        if self._namespace is not None:
            self._quotas.add_bytes(self._namespace, -self._counted)
        self._counted = 0
