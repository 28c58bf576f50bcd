"""Serves an application on a socket, in a thread of the process that tests it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import uvicorn
from fastapi import FastAPI

from weightvault.api.server.serving import listen, make_config

_START_SECONDS = 30.0


class _Server(uvicorn.Server):
    """Looks more often than each tenth of a second whether it is to end."""

    async def main_loop(self) -> None:
        ticks = count()
        while not await self.on_tick(next(ticks)):
            await asyncio.sleep(0.02)


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """A running server; gives its URL."""
    running = _Server(make_config(app, log_level="critical"))
    listener = listen("127.0.0.1", 0)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not running.started:
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        # Also where the test failed: the process would wait for the thread for ever.
        running.should_exit = running.force_exit = True
        thread.join()
        listener.close()
        _end_background(app)


def _end_background(app: FastAPI) -> None:
    """Ends what an application begins and, cut off in its answers, does not end itself."""
    for name in ("encoder", "jobs"):
        if (running := getattr(app.state, name, None)) is not None:
            running.stop()


def wait_until(holds: Callable[[], bool]) -> None:
    """Waits for what a server does on its own behalf."""
    deadline = time.monotonic() + _START_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)
