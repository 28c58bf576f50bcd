"""Logs as JSON lines, each with the id of the request it belongs to.

A client may send X-Request-Id, so that its log and ours can be laid side by side; otherwise we draw
one. It comes back in the answer.
"""

from __future__ import annotations

import logging
import re
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID_HEADER = "X-Request-Id"
FORMATS = ("plain", "json")

_log = logging.getLogger("weightvault.access")
_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
# What others send comes into our log: short, and nothing that a terminal or a parser trips over.
_PROPER_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def configure(form: str, audit_log: Path | None = None) -> dict[str, Any]:
    """Returns the configuration of logging to stderr, in one of FORMATS, and of the audit log to a
    file of its own if there is one."""
    fields = "%(asctime)s %(levelname)s %(name)s %(message)s"
    formatters = {
        "plain": {"format": "%(asctime)s %(levelname)s %(message)s"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": f"{fields} %(request_id)s",
            "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
        },
    }
    # Ours says the same of every request, and more.
    quiet = {"handlers": [], "level": "WARNING", "propagate": False}
    loud = {"handlers": ["stderr"], "level": "INFO", "propagate": False}
    handlers: dict[str, Any] = {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": form,
            "filters": ["request"],
        }
    }
    loggers = {"uvicorn": loud, "weightvault": loud, "uvicorn.access": quiet}
    if audit_log is not None:
        handlers["audit"] = {
            "()": "weightvault.api.requests.audit.AuditFile",
            "filename": str(audit_log),
            "formatter": "json",
            "filters": ["request"],
        }
        loggers["weightvault.audit"] = {**loud, "handlers": ["audit"]}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request": {"()": "weightvault.api.server.logs.WithRequestId"}},
        "formatters": formatters,
        "handlers": handlers,
        "loggers": loggers,
    }


class WithRequestId(logging.Filter):
    """Puts the id of the request at hand on every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record through."""
        record.request_id = _request_id.get()
        return True


class RequestLog:
    """Gives every request an id, and logs it when it is answered: never its query, which may hold
    what is nobody's business, nor its headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application within the request's id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _choose_id(Headers(scope=scope).get(REQUEST_ID_HEADER, ""))
        token = _request_id.set(request_id)
        status, sent, start = 0, 0, time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            _log_request(scope, status, sent, time.perf_counter() - start)
            _request_id.reset(token)


def _choose_id(asked: str) -> str:
    return asked if _PROPER_ID.fullmatch(asked) else uuid4().hex


def _log_request(scope: Scope, status: int, sent: int, seconds: float) -> None:
    # Without a status the connection ended, or the application failed, before there was one.
    client = scope.get("client")
    facts = {
        "method": scope["method"],
        "path": scope["path"].replace("\x7f", "\\x7f"),
        "status": status or None,
        "seconds": round(seconds, 6),
        "sent_bytes": sent,
        "client": client[0] if client else None,
    }
    text = f"{scope['method']} {_quote(scope['path'])} {status or '-'} {seconds:.3f} s"
    _log.info(text, extra=facts)


def _quote(path: str) -> str:
    """A path as it can stand in a line of a log."""
    return path.encode("unicode_escape").decode("ascii")
