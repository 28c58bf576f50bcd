"""The audit log: one line for each request that changes something, and for each that is denied.

It says who (the name and id of a token, never the token), from where, what, in which repo, how many
bytes came, and what became of it. It is JSON in ASCII: whatever a name or a path holds, it is one
line, and no terminal takes any of it for a command.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from ...store.repo_names import MODELS, RepoName
from .callers import Caller
from .exchange import Exchange

AUDIT_LOGGER = "weightvault.audit"

ASKS = frozenset(
    {
        *("batch", "check_commit", "find_bases", "find_missing", "get_paths", "grant_xorb"),
        *("locks", "nothing", "preupload", "read_frames", "take_telemetry", "unknown"),
        *("validate_card", "verify"),
    }
)
"""Endpoints that only answer a question, though it comes in a body."""

_READS = ("GET", "HEAD", "OPTIONS")
_DENIED = (401, 403)
# What the application answers where nobody is there to read it.
_CLIENT_GONE = 499
_MAX_TEXT = 512
# JSON escapes all that is not ASCII, and the other control characters.
_DELETE = str.maketrans({"\x7f": "\\x7f"})

_log = logging.getLogger(AUDIT_LOGGER)


def note_repo(request: HTTPConnection, repo: str) -> None:
    """Puts down which repo a request is about, where its path does not say so."""
    request.state.audit_repos = (*getattr(request.state, "audit_repos", ()), repo)


def note_denied(request: HTTPConnection) -> None:
    """Puts down that a request was denied what its answer says is not there."""
    request.state.audit_denied = True


def audit_exchange(exchange: Exchange) -> None:
    """Writes a line about a request that was answered, if it is one for the log."""
    status = exchange.status
    event = _find_event(exchange.scope, status)
    if event is not None:
        done = exchange.whole and status != _CLIENT_GONE
        _write(exchange.scope, event, exchange.received, status if done else None)


def audit_fetch(who: Mapping[str, str | None], repo: str, path: str, size: int, done: bool) -> None:
    """Writes a line about a file of an upstream hub that was stored for whoever asked for it first,
    or that could not be; `who` is what `who_asks` returns."""
    facts: dict[str, Any] = {
        "event": "mirror",
        **who,
        "operation": "fetch",
        "repo": repo,
        "path": path,
        "received_bytes": size,
        "outcome": "done" if done else "failed",
    }
    facts = {name: _clean(value) for name, value in facts.items()}
    text = f"mirror {facts['repo']} {facts['path']} by {facts['who']}: {facts['outcome']}"
    _log.info(text.encode("unicode_escape").decode("ascii"), extra=facts)


def who_asks(request: HTTPConnection) -> dict[str, str | None]:
    """Returns who sent a request, as the log has it."""
    client = request.scope.get("client")
    return {**_who(request.scope), "address": client[0] if client else None}


class AuditFile(WatchedFileHandler):
    """A file that only its owner may read, reopened when it was moved away or deleted; so a log
    is rotated by renaming it."""

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="ascii", opener=_open_private)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _find_event(scope: Scope, status: int) -> str | None:
    if status in _DENIED or scope["state"].get("audit_denied"):
        return "denied"
    if scope["method"] in _READS or _operation(scope) in (None, *ASKS):
        return None
    return "write"


def _operation(scope: Scope) -> str | None:
    return getattr(scope.get("endpoint"), "__name__", None)


def _write(scope: Scope, event: str, received: int, status: int | None) -> None:
    client = scope.get("client")
    facts: dict[str, Any] = {
        "event": event,
        **_who(scope),
        "address": client[0] if client else None,
        "method": scope["method"],
        "operation": _operation(scope),
        "repo": _repo(scope),
        "received_bytes": received,
        # Without one the client went away, or the answer broke off.
        "status": status,
        "outcome": _outcome(event, status),
    }
    facts = {name: _clean(value) for name, value in facts.items()}
    where = f"{facts['operation']} {facts['repo'] or '-'}"
    text = f"{event} {where} by {facts['who']} from {facts['address']}: {facts['outcome']}"
    _log.info(text.encode("unicode_escape").decode("ascii"), extra=facts)


def _who(scope: Scope) -> dict[str, Any]:
    caller: Caller | None = scope["state"].get("caller")
    if caller is not None:
        return {"who": caller.token or caller.name, "token_id": caller.token_id}
    shown = "authorization" in Headers(scope=scope)
    return {"who": "unknown" if shown else "anonymous", "token_id": None}


def _repo(scope: Scope) -> str | None:
    params = scope.get("path_params", {})
    named = scope["state"].get("audit_repos")
    if named:
        return " ".join(named)
    if "repo" in params:
        return params["repo"]
    if "namespace" in params and "name" in params:
        return str(RepoName(params.get("kind") or MODELS, params["namespace"], params["name"]))
    return None


def _outcome(event: str, status: int | None) -> str:
    if status is None:
        return "broken off"
    if event == "denied":
        return "denied"
    return "done" if status < 400 else "refused" if status < 500 else "failed"


def _clean(value: Any) -> Any:
    return value[:_MAX_TEXT].translate(_DELETE) if isinstance(value, str) else value
