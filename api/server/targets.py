"""Refuses addresses that hold NUL, which no name here has and no database keeps in a text."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import error_body


class PlainTargets:
    """Answers 400 to requests with NUL in their path or query, before anything looks at these."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application unless the address is refused."""
        if scope["type"] == "http" and ("\0" in scope["path"] or b"%00" in scope["query_string"]):
            body = error_body("invalid_input", "an address holds NUL", "correct the address")
            await JSONResponse(body, 400)(scope, receive, send)
            return
        await self._app(scope, receive, send)
