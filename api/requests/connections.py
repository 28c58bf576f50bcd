"""Connections that no client can hold for nothing: how many there are, and how long they may wait.

uvicorn closes connections that are idle between two requests, and waits for ever in all other
cases: for the end of a request's head, for a body, for a client that does not read. Here one look
a second at all connections finds those whose client owes something and does not deliver.

Beyond a limit, the connection that has waited longest without a request makes room for the new
one. If there is none, the new one is answered 503, except for `/health` and `/metrics`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections import Counter, defaultdict
from enum import Enum
from typing import Any, ClassVar, cast

import h11
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import error_body
from .settings import ConnectionLimits

# Beyond the limit, this many connections at once are told so; any more are dropped.
_SURPLUS = 64
_LOOK_SECONDS = 1.0
# Whoever moved nothing for this long may be closed in favour of others.
_STALLED_SECONDS = 5.0
_ALWAYS = {"/health", "/metrics"}
_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

_log = logging.getLogger("weightvault.api")


class Stage(Enum):
    """What a connection waits for."""

    HEAD = "head"
    BODY = "body"
    SENDING = "sending"
    IDLE = "idle"
    WORK = "work"


class Pace:
    """Since when a client has owed what, and how many bytes it has moved since."""

    def __init__(self, now: float) -> None:
        self.stage = Stage.HEAD
        self.since = self.moved_at = now
        self._first = self._last = 0

    def update(self, stage: Stage, count: int, now: float, enough: int) -> None:
        """Notes that `count` bytes have moved so far; `enough` of them begin a new interval."""
        if stage is not self.stage or count - self._first >= enough:
            self.stage, self.since, self._first = stage, now, count
            self.moved_at = now
        elif count != self._last:
            self.moved_at = now
        self._last = count

    def is_late(self, now: float, limits: ConnectionLimits) -> bool:
        """Says whether the client has had its time."""
        if self.stage is Stage.HEAD:
            return now - self.since > limits.head_seconds
        if self.stage in (Stage.BODY, Stage.SENDING):
            return now - self.since > limits.progress_seconds
        return False

    def may_yield(self, now: float) -> bool:
        """Says whether the connection may be closed in favour of another one."""
        if self.stage in (Stage.HEAD, Stage.IDLE):
            return True
        return self.stage is not Stage.WORK and now - self.moved_at > _STALLED_SECONDS


class Connections:
    """All connections of one server; used in its event loop alone."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.closed: Counter[str] = Counter()
        """How many connections were closed, or not served, and why."""
        self._by_client: defaultdict[str, set[GuardedProtocol]] = defaultdict(set)
        self._proxies = [ipaddress.ip_network(each) for each in limits.trusted_proxies]
        self._count = 0
        self._looking: asyncio.TimerHandle | None = None
        # Never later than half of the shortest time that is granted.
        shortest = min(limits.head_seconds, limits.progress_seconds)
        self._look_seconds = min(_LOOK_SECONDS, shortest / 2)

    def __len__(self) -> int:
        return self._count

    def protocol(self) -> type[asyncio.Protocol]:
        """Returns the protocol class for uvicorn whose connections are these."""
        return type("Guarded", (GuardedProtocol,), {"registry": self})

    def join(self, connection: GuardedProtocol) -> None:
        """Takes in a new connection, closing another one or this one if there are too many."""
        mates = self._by_client[connection.client_key]
        mates.add(connection)
        self._count += 1
        if self._looking is None:
            self._look_later(connection.loop)
        own_excess = len(mates) - self.limits.most_per_client
        excess = self._count - self.limits.most
        if own_excess > 0 and not self._is_proxy(connection.client_key):
            self._make_room(connection, mates, own_excess)
        elif excess > 0:
            self._make_room(connection, max(self._by_client.values(), key=len), excess)

    def leave(self, connection: GuardedProtocol) -> None:
        """Forgets a connection."""
        mates = self._by_client[connection.client_key]
        if connection in mates:
            mates.remove(connection)
            self._count -= 1
        if not mates:
            del self._by_client[connection.client_key]

    def _is_proxy(self, client: str) -> bool:
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return False
        return any(address in network for network in self._proxies)

    def _make_room(self, new: GuardedProtocol, among: set[GuardedProtocol], excess: int) -> None:
        now = time.monotonic()
        for each in among:
            each.note(now)
        ready = [each for each in among if each is not new and each.pace.may_yield(now)]
        if ready:
            # Those without a request first, and of them the one that has waited longest.
            waiting = (Stage.HEAD, Stage.IDLE)
            victim = min(ready, key=lambda c: (c.pace.stage not in waiting, c.pace.moved_at))
            self._close(victim, "room for others")
        elif excess > _SURPLUS:
            self._close(new, "too many")
        else:
            self.closed["busy"] += 1
            new.app = _only_health(new.app)

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looking = loop.call_later(self._look_seconds, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        everybody = [each for mates in self._by_client.values() for each in mates]
        for each in everybody:
            each.note(now)
            if each.pace.is_late(now, self.limits):
                self._close(each, each.pace.stage.value)
        self._bound_buffers(everybody, now)
        self._looking = None
        if self._count:
            self._look_later(loop)

    def _bound_buffers(self, everybody: list[GuardedProtocol], now: float) -> None:
        """Closes those whose unread answers take the most while all take too much together."""
        total = sum(each.unsent_bytes() for each in everybody)
        if total <= self.limits.buffered_bytes:
            return
        stalled = [c for c in everybody if c.unsent_bytes() and c.pace.may_yield(now)]
        for each in sorted(stalled, key=lambda c: c.pace.moved_at):
            if total <= self.limits.buffered_bytes:
                return
            total -= each.unsent_bytes()
            self._close(each, "memory")

    def _close(self, connection: GuardedProtocol, why: str) -> None:
        self.closed[why] += 1
        # The host alone: it is an address that the kernel told.
        host = connection.client[0] if connection.client else "?"
        _log.info("closed a connection of %s: %s", host, why)
        # At once: the transport tells of its end only later.
        self.leave(connection)
        connection.drop()


class _CountingTransport:
    """A transport that knows how many bytes were written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += len(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP protocol, known to a registry of connections."""

    registry: ClassVar[Connections]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins a connection, if there may be one more."""
        self._counted = _CountingTransport(transport)
        self._received = 0
        self.pace = Pace(time.monotonic())
        super().connection_made(cast(asyncio.Transport, self._counted))
        self.client_key = client_key(self.client[0] if self.client else "")
        self.registry.join(self)

    def data_received(self, data: bytes) -> None:
        """Takes in bytes of requests."""
        self._received += len(data)
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends a connection."""
        self.registry.leave(self)
        super().connection_lost(exc)

    def unsent_bytes(self) -> int:
        """Returns how many bytes wait in memory for the client to read."""
        return self.transport.get_write_buffer_size()

    def note(self, now: float) -> None:
        """Brings `pace` up to this moment."""
        stage = self._find_stage()
        count = self._received
        if stage is Stage.SENDING:
            count = self._counted.written - self.unsent_bytes()
        self.pace.update(stage, count, now, self.registry.limits.progress_bytes)

    def drop(self) -> None:
        """Closes the connection; nothing more is sent to a client that has to read or to send."""
        if self.pace.stage in (Stage.BODY, Stage.SENDING):
            self.transport.abort()
            return
        if self.pace.stage is Stage.HEAD and not self.transport.is_closing():
            self.transport.write(_TIMEOUT)
        self.transport.close()

    def _find_stage(self) -> Stage:
        if self.unsent_bytes():
            return Stage.SENDING
        under_way = self.cycle is not None and not self.cycle.response_complete
        if self.conn.their_state is h11.SEND_BODY:
            held_up = self.flow.read_paused or (under_way and self.cycle.waiting_for_100_continue)
            return Stage.WORK if held_up else Stage.BODY
        if under_way:
            return Stage.WORK
        return Stage.HEAD if self.timeout_keep_alive_task is None else Stage.IDLE


def client_key(host: str) -> str:
    """Returns what counts as one client: an IPv4 address, or the network of an IPv6 address, of
    which one client has them all."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False).network_address)


def _only_health(app: Any) -> Any:
    """Returns the application as those see it who are too many."""
    hint = "the server has as many connections as it may have"
    busy = JSONResponse(
        error_body("busy", "too many connections", hint),
        503,
        {"Retry-After": "1", "Connection": "close"},
    )

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await (app if scope["path"] in _ALWAYS else busy)(scope, receive, send)

    return answer
