"""Lets a crowd of requests of one client wait for those of others.

A request takes some ten milliseconds of Python before its answer begins, and all requests share one
interpreter: 64 that come at once from one client would make everybody else wait for a second. So
those who read without a valid token stand in one line for each address, and go in a few at a time.
While others are at work and a line is a crowd, its requests go in one by one, each after a rest of
three times what the one before took: so a crowd takes a quarter of the time at most. Nobody is
refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
from starlette.datastructures import Headers
from starlette.types import Scope

from ...store.cancel import check_cancelled
from ..requests.connections import client_key
from ..sending.downloads import AT_ONCE

# Of a client beside others: what is under way at once, and how many may wait without being a crowd.
# Clients of hubs fetch eight files at once.
_BESIDE_OTHERS = 2
_CROWD = 8
_RESTS = 3
_LONGEST_REST_SECONDS = 0.25
# So long others count as at work after anything they asked for or were sent.
_RECENT_SECONDS = 1.0
_KNOWN_KEPT = 10_000
_LOOK_SECONDS = 1.0
# Who watches the server waits for nobody.
_PROBES = {"/health", "/metrics"}
_UNAUTHORIZED = 401

RunLater = Callable[[float, Callable[[], None]], object]


@dataclass(eq=False, slots=True)
class _Line:
    """Requests of one client: how many have no answer yet, and those that wait to be let in."""

    running: int = 0
    resting: bool = False
    waiting: deque[anyio.Event] = field(default_factory=deque)


class Lines:
    """Who may go in. `now` is a clock in seconds, `later` calls something after so many."""

    def __init__(self, now: Callable[[], float], later: RunLater) -> None:
        self._now = now
        self._later = later
        self._lines: dict[str, _Line] = {}
        # When each client last asked for or got something, the latest at the end.
        self._seen: OrderedDict[str, float] = OrderedDict()

    def note(self, client: str) -> None:
        """Notes that a client is at work."""
        now = self._now()
        self._seen[client] = now
        self._seen.move_to_end(client)
        while now - next(iter(self._seen.values())) > _RECENT_SECONDS:
            self._seen.popitem(last=False)

    def enter(self, client: str) -> anyio.Event:
        """Puts a request in its line; it may go in when the event is set."""
        line, turn = self._lines.setdefault(client, _Line()), anyio.Event()
        line.waiting.append(turn)
        self._let_in(client, line)
        return turn

    def give_up(self, client: str, turn: anyio.Event) -> None:
        """Takes a request out of its line, or back in time that came when it left."""
        if turn.is_set():
            self.leave(client, 0.0)
        else:
            self._lines[client].waiting.remove(turn)
            self._forget(client)

    def leave(self, client: str, seconds: float) -> None:
        """Notes that the answer to a request begins, which took `seconds`."""
        line = self._lines[client]
        line.running -= 1
        if self._is_crowd(client, line):
            line.resting = True
            self._later(min(_RESTS * seconds, _LONGEST_REST_SECONDS), lambda: self._rested(client))
        self._let_in(client, line)

    def _rested(self, client: str) -> None:
        line = self._lines[client]
        line.resting = False
        self._let_in(client, line)

    def _let_in(self, client: str, line: _Line) -> None:
        while line.waiting and not line.resting and line.running < self._most(client, line):
            line.running += 1
            line.waiting.popleft().set()
        self._forget(client)

    def _forget(self, client: str) -> None:
        line = self._lines[client]
        if not (line.waiting or line.running or line.resting):
            del self._lines[client]

    def _most(self, client: str, line: _Line) -> int:
        if not self._beside_others(client):
            return AT_ONCE
        return 1 if len(line.waiting) > _CROWD else _BESIDE_OTHERS

    def _is_crowd(self, client: str, line: _Line) -> bool:
        return not line.resting and len(line.waiting) > _CROWD and self._beside_others(client)

    def _beside_others(self, client: str) -> bool:
        latest = next((each for each in reversed(self._seen) if each != client), None)
        return latest is not None and self._now() - self._seen[latest] <= _RECENT_SECONDS


class Turn:
    """The turn of one request of a `client`, None for one that is no matter of turns. `waits` says
    that it has to `wait` before it is handled; it is to `leave` when its answer begins. `shown`
    tells apart what credentials it came with."""

    def __init__(self, lines: Lines, client: str | None, shown: bytes, *, waits: bool) -> None:
        self._lines = lines
        self._client = client or ""
        self._inside = False
        self._started = 0.0
        self.shown = shown
        self.waits = waits

    async def wait(self) -> None:
        """Returns when it may go in."""
        turn = self._lines.enter(self._client)
        try:
            while not turn.is_set():
                check_cancelled()
                with anyio.move_on_after(_LOOK_SECONDS):
                    await turn.wait()
        except BaseException:
            self._lines.give_up(self._client, turn)
            raise
        self._started, self._inside = time.monotonic(), True

    def note(self) -> None:
        """Notes that the client was sent something."""
        if self._client:
            self._lines.note(self._client)

    def leave(self) -> None:
        """Lets others in, the first time that it is called."""
        if self._inside:
            self._inside = False
            self._lines.leave(self._client, time.monotonic() - self._started)


class Turns:
    """Gives requests their turns; whose they are is learned from how they end."""

    def __init__(self) -> None:
        self.lines = Lines(time.monotonic, _call_later)
        # What valid tokens and sessions look like, as SHA-256, the latest at the end.
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def begin(self, scope: Scope, asked: Headers) -> Turn:
        """Returns the turn of a request with the headers `asked`."""
        shown = _credentials(asked)
        known, reads = shown in self._known, scope["method"] in ("GET", "HEAD")
        client = f"token {shown.hex()}" if known else _address(scope)
        if scope["path"] in _PROBES:
            return Turn(self.lines, None, shown, waits=False)
        self.lines.note(client)
        return Turn(self.lines, client, shown, waits=reads and not known)

    def end(self, turn: Turn, scope: Scope, status: int) -> None:
        """Ends a turn that was answered with `status`, and remembers credentials that turned out to
        be valid. Where nobody looked at them, as in probes, nothing is learned."""
        turn.note()
        turn.leave()
        caller = scope["state"].get("caller")
        if caller is None or caller.token_id is None:
            if caller is not None or status == _UNAUTHORIZED:
                self._known.pop(turn.shown, None)
            return
        self._known[turn.shown] = None
        self._known.move_to_end(turn.shown)
        if len(self._known) > _KNOWN_KEPT:
            self._known.popitem(last=False)


def _credentials(asked: Headers) -> bytes:
    shown = (asked.get("authorization", ""), asked.get("cookie", ""))
    return hashlib.sha256("\0".join(shown).encode("latin-1")).digest()


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return f"address {client_key(client[0] if client else '')}"


def _call_later(seconds: float, call: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(seconds, call)
