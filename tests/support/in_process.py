"""HTTP to an application in this process, without a socket.

Starlette's TestClient starts a thread and an event loop for each request, and changes threads a
dozen times for it: 3 ms where most answers take 2.
"""

from __future__ import annotations

import asyncio
import threading
from functools import cache
from typing import Any
from urllib.parse import unquote

import httpx
from fastapi import FastAPI

URL = "http://hub"


class AppClient(httpx.Client):
    """A client whose requests go to an application, which is not started: what it does in the
    background, it does not. What it raises, so does the request. Safe to use from several
    threads."""

    def __init__(self, app: FastAPI, base_url: str = URL, headers: dict[str, str] | None = None):
        super().__init__(transport=_AppTransport(app), base_url=base_url, headers=headers)


class _AppTransport(httpx.BaseTransport):
    """Answers are held back until they are whole."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answering = self._answer(request, request.read())
        return asyncio.run_coroutine_threadsafe(answering, _loop()).result()

    async def _answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
        started: dict[str, Any] = {}
        parts: list[bytes] = []
        complete = asyncio.Event()
        asked = iter([{"type": "http.request", "body": body}])

        async def receive() -> Any:
            for message in asked:
                return message
            await complete.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                started.update(message)
                return
            if request.method != "HEAD":
                parts.append(bytes(message.get("body", b"")))
            if not message.get("more_body"):
                complete.set()

        await self._app(_scope(request), receive, send)
        assert complete.is_set(), "the answer breaks off"
        return httpx.Response(
            started["status"], headers=started["headers"], content=b"".join(parts)
        )


def _scope(request: httpx.Request) -> dict[str, Any]:
    url = request.url
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme,
        "path": unquote(url.path),
        "raw_path": url.raw_path.partition(b"?")[0],
        "query_string": url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("testclient", 50000),
        "server": (url.host, url.port or 80),
        "state": {},
    }


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The event loop of all clients, in a thread of its own."""
    loop = asyncio.new_event_loop()
    # Of one task that never ends, so that the threads that work for it are kept, too.
    for_ever = loop.create_future()
    threading.Thread(target=loop.run_until_complete, args=(for_ever,), daemon=True).start()
    return loop
