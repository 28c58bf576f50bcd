"""Logs as JSON lines, each with the id of the request it belongs to.

A client may send X-Request-Id, so that its log and ours can be laid side by side; otherwise we draw
one. It comes back in the answer.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers

from ..requests.exchange import Exchange

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


@contextmanager
def within_request(asked: Headers) -> Iterator[str]:
    """Gives the id of a request with these headers; what is logged within bears it."""
    request_id = _choose_id(asked.get(REQUEST_ID_HEADER, ""))
    token = _request_id.set(request_id)
    try:
        yield request_id
    finally:
        _request_id.reset(token)


def _choose_id(asked: str) -> str:
    return asked if _PROPER_ID.fullmatch(asked) else uuid4().hex


def log_exchange(exchange: Exchange) -> None:
    """Logs a request when it is answered: never its query, which may hold what is nobody's
    business, nor its headers."""
    scope, status, seconds = exchange.scope, exchange.status, exchange.seconds
    # Without a status the connection ended, or the application failed, before there was one.
    client = scope.get("client")
    facts = {
        "method": scope["method"],
        "path": scope["path"].replace("\x7f", "\\x7f"),
        "status": status or None,
        "seconds": round(seconds, 6),
        "sent_bytes": exchange.sent,
        "client": client[0] if client else None,
    }
    text = f"{scope['method']} {_quote(scope['path'])} {status or '-'} {seconds:.3f} s"
    _log.info(text, extra=facts)


def _quote(path: str) -> str:
    """A path as it can stand in a line of a log."""
    return path.encode("unicode_escape").decode("ascii")
