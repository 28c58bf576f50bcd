"""What every request and its answer go through, whatever they are for, in one layer.

An answer gets the id of its request, our version, and safe headers. When it ends, logs, the audit
and metrics take note of it.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ... import __version__
from ..protocol.wire import VERSION_HEADER
from ..requests.audit import audit_exchange
from ..requests.exchange import Exchange
from ..sending.headers import complete_headers
from .logs import REQUEST_ID_HEADER, log_exchange, within_request
from .metrics import Metrics


class Envelope:
    """The layer around an application; `metrics` count what goes through."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application, with the headers added to what it sends."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Everything that handles the request shares this, whoever looks at it first.
        scope.setdefault("state", {})
        exchange, asked = Exchange(scope), Headers(scope=scope)

        async def receive_counted() -> Message:
            message = await receive()
            exchange.take(message)
            return message

        async def send_completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[VERSION_HEADER], headers[REQUEST_ID_HEADER] = __version__, request_id
                complete_headers(headers, asked)
            await send(message)
            exchange.give(message)

        with within_request(asked) as request_id, self._metrics.under_way.track_inprogress():
            try:
                await self._app(scope, receive_counted, send_completed)
            finally:
                self._metrics.count_exchange(exchange)
                audit_exchange(exchange)
                log_exchange(exchange)
