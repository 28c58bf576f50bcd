"""A crowd of requests of one client waits for the requests of others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import anyio
import pytest
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from weightvault.api.requests.callers import Caller
from weightvault.api.sending.downloads import AT_ONCE
from weightvault.api.server.envelope import Envelope
from weightvault.api.server.metrics import Metrics
from weightvault.api.server.turns import Lines
from weightvault.store.cancel import CancelToken


class Hall:
    """Lines with a clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self.lines = Lines(lambda: self.now, self._later)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append((self.now + seconds, call))

    def pass_time(self, seconds: float) -> None:
        """Moves the clock, and calls what is due."""
        self.now += seconds
        due = [call for at, call in self._timers if at <= self.now]
        self._timers = [timer for timer in self._timers if timer[0] > self.now]
        for call in due:
            call()

    def crowd(self, client: str, count: int) -> list[anyio.Event]:
        """So many requests of a client at once."""
        self.lines.note(client)
        return [self.lines.enter(client) for _ in range(count)]


def inside(turns: Iterable[anyio.Event]) -> int:
    """How many were let in."""
    return sum(turn.is_set() for turn in turns)


def test_alone_a_client_goes_in_as_fast_as_its_requests_end():
    hall = Hall()
    turns = hall.crowd("many", 64)
    for gone in range(60):
        assert inside(turns) == gone + AT_ONCE
        hall.lines.leave("many", 5.0)


def test_beside_others_a_crowd_rests_three_times_as_long_as_it_works():
    hall = Hall()
    hall.lines.note("other")
    turns = hall.crowd("many", 64)
    assert inside(turns) == 2
    hall.lines.leave("many", 0.01)
    hall.lines.leave("many", 0.01)
    for gone in range(2, 20):
        assert inside(turns) == gone
        hall.lines.note("other")
        hall.pass_time(0.029)
        assert inside(turns) == gone
        hall.pass_time(0.002)
        assert inside(turns) == gone + 1
        hall.lines.leave("many", 0.01)


def test_a_slow_request_makes_a_crowd_rest_for_a_quarter_of_a_second_at_most():
    hall = Hall()
    hall.lines.note("other")
    turns = hall.crowd("many", 64)
    hall.lines.leave("many", 30.0)
    hall.lines.leave("many", 30.0)
    hall.pass_time(0.26)
    assert inside(turns) == 3


def test_once_the_others_are_gone_a_crowd_goes_on():
    hall = Hall()
    hall.lines.note("other")
    turns = hall.crowd("many", 64)
    hall.lines.leave("many", 0.01)
    hall.pass_time(2.0)
    assert inside(turns) == 1 + AT_ONCE


@pytest.mark.parametrize("count", [1, 3, 8, 10])
def test_a_few_requests_are_no_crowd(count: int):
    hall = Hall()
    hall.lines.note("other")
    turns = hall.crowd("few", count)
    for gone in range(count):
        assert inside(turns) == min(count, gone + 2)
        hall.lines.leave("few", 0.01)
    assert not hall.lines._lines


def test_another_client_is_let_in_at_once():
    hall = Hall()
    hall.crowd("many", 64)
    assert inside(hall.crowd("few", 2)) == 2


def test_whoever_gives_up_leaves_no_trace():
    hall = Hall()
    hall.lines.note("other")
    turns = hall.crowd("many", 20)
    for turn in reversed(turns):
        hall.lines.give_up("many", turn)
    hall.pass_time(1.0)
    assert not hall.lines._lines


def request(path: str = "/o/m", token: str = "", method: str = "GET") -> Scope:
    headers = [(b"authorization", token.encode())] if token else []
    host = ("10.0.0.1", 5)
    return {"type": "http", "path": path, "method": method, "headers": headers, "client": host}


class App:
    """An application that begins to answer when it is told to, and knows one token."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = asyncio.Event()

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.asked.append(scope["path"])
        shown = dict(scope["headers"]).get(b"authorization")
        # These ask for no token.
        if shown == b"Bearer good" and scope["path"] not in ("/health", "/style", "/revoked"):
            scope["state"]["caller"] = Caller("me", token="me", token_id="1")
        if scope["method"] == "GET" and scope["path"] != "/health":
            await self.answer.wait()
        status = 401 if scope["path"] == "/revoked" else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def receive() -> Message:
    """The client stays."""
    await asyncio.Event().wait()
    raise AssertionError


async def drop(_message: Message) -> None:
    pass


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def count_inside(others: list[Scope], *, before: str = "/style") -> list[str]:
    """Returns the paths that came in while 64 requests without a token want to, and `others`;
    `before` them, the holder of a token asked for that."""

    async def run() -> list[str]:
        app = App()
        layer = Envelope(app, Metrics(FastAPI()), CancelToken())
        for _ in range(2):
            # Known by the first, at work by the second.
            await layer(request("/learn", "Bearer good", "POST"), receive, drop)
            await layer(request("/health", "Bearer good"), receive, drop)
        await layer(request(before, "Bearer good", "POST"), receive, drop)
        waiting = [asyncio.create_task(layer(request(), receive, drop)) for _ in range(64)]
        await settle()
        rest = [asyncio.create_task(layer(scope, receive, drop)) for scope in others]
        await settle()
        found = list(app.asked)
        for task in waiting + rest:
            task.cancel()
        await asyncio.gather(*waiting, *rest, return_exceptions=True)
        left = layer._turns.lines._lines.values()
        assert not any(line.running or line.waiting for line in left)
        return found

    return asyncio.run(run())


def test_strangers_wait_and_holders_of_a_token_do_not():
    good = [request("/token", "Bearer good") for _ in range(10)]
    found = count_inside([*good, request("/health"), request("/commit", method="POST")])
    assert found.count("/o/m") == 2
    assert found.count("/token") == 10
    assert (found.count("/health"), found.count("/commit")) == (3, 1)


def test_a_revoked_token_is_a_strangers():
    good = [request("/token", "Bearer good") for _ in range(10)]
    assert count_inside(good, before="/revoked").count("/token") == 0


def test_a_token_that_is_none_is_a_stranger():
    found = count_inside([request("/bad", f"Bearer bad{n}") for n in range(10)])
    assert found.count("/bad") == 0
