"""Errors as clients of hubs know them: a code in X-Error-Code that they map to an exception, the
text in X-Error-Message and in the body."""

from __future__ import annotations

import logging
from typing import Any

from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.responses import Response

from ...dedup import errors as kinds
from ...dedup.errors import VaultError
from ...dedup.transfer.refs import StaleParent
from ..errors import (
    Busy,
    Overloaded,
    RangeNotSatisfiable,
    RateExceeded,
    Unauthorized,
    UpstreamRefused,
    cut_message,
    http_status,
    retry_seconds,
)
from ..requests.callers import BASIC_ALLOWED
from ..requests.public_errors import public_error

_log = logging.getLogger("weightvault.api")

_CODES: dict[type[VaultError], str] = {
    kinds.RepoNotFound: "RepoNotFound",
    kinds.RevisionNotFound: "RevisionNotFound",
    kinds.EntryNotFound: "EntryNotFound",
    kinds.QuotaExceeded: "QuotaExceeded",
    RateExceeded: "RateExceeded",
}
# As clients of 2.x and of 0.36 look for it.
_STALE = (
    "The branch was updated since you opened this page. Please refresh and try again. "
    "A commit has happened since. Please refresh and try again."
)
COMMIT_HEADER = "X-Repo-Commit"
LFS_TYPE = "application/vnd.git-lfs+json"


def commit_header(commit: str) -> dict[str, str]:
    """Returns the header that names the commit which an answer is of."""
    return {COMMIT_HEADER: commit}


class HubError(Exception):
    """A failure that is no VaultError: status, text, code of the hub's if it has one, and what the
    body of the answer has besides the text."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        *,
        headers: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers or {}
        self.body = body or {}


def error_response(request: Request, error: VaultError | HubError) -> Response:
    """Returns the answer that stands for an error."""
    if isinstance(error, VaultError):
        error = _hub_error(request, public_error(error, request.app.state.vault))
    headers, message = dict(error.headers), cut_message(error.message)
    # Headers take no more than Latin-1, and no line breaks; the body has all of it.
    headers["X-Error-Message"] = _header_text(message)
    if error.code:
        headers["X-Error-Code"] = error.code
    if BASIC_ALLOWED in request.scope:
        # As git-lfs has it.
        body = {"error": message, "message": message, **error.body}
        return JSONResponse(body, error.status, headers, media_type=LFS_TYPE)
    return JSONResponse({"error": message, **error.body}, error.status, headers)


def _header_text(message: str) -> str:
    """Returns a message as a header may hold it: printable ASCII."""
    text = " ".join(message.split()).encode("ascii", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in text)


def _hub_error(request: Request, error: VaultError) -> HubError:
    if isinstance(error, UpstreamRefused):
        return _passed_on(error)
    code = next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), None)
    error = _as_known(error)
    status = 412 if isinstance(error, StaleParent) else http_status(type(error))
    text = error.message if error.hint is None else f"{error.message}; {error.hint}"
    headers: dict[str, str] = {}
    caller = getattr(request.state, "caller", None)
    if isinstance(error, kinds.RepoNotFound) and caller is not None and caller.role is None:
        # It may be there for somebody with a token.
        status, headers = 401, _challenges(request)
    if isinstance(error, Unauthorized):
        # Clients look for exactly this text.
        text = error.message
        headers = _challenges(request)
    if isinstance(error, Busy | Overloaded):
        headers["Retry-After"] = str(retry_seconds(error))
    if isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    if isinstance(error, kinds.ChunksMissing):
        # It was collected at this very moment: the same request works once more.
        status = 503
    if isinstance(error, kinds.EntryNotFound) and hasattr(request.state, "commit"):
        headers[COMMIT_HEADER] = request.state.commit
    if status >= 500:
        _log.error("%s %s: %s: %s", request.method, request.url.path, error.code, error.message)
    return HubError(status, text, code, headers=headers)


def _as_known(error: VaultError) -> VaultError:
    """Returns an error with the text that clients of hubs look for, where they do."""
    if isinstance(error, kinds.RepoNotFound):
        return kinds.RepoNotFound("Repository not found")
    if isinstance(error, StaleParent):
        return StaleParent(f"{_STALE} {error.message}", error.hint)
    return error


def _passed_on(error: UpstreamRefused) -> HubError:
    """Returns what the hub that is mirrored said, which its clients know."""
    wait = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return HubError(error.status, error.message, error.hub_code, headers=wait)


def _challenges(request: Request) -> dict[str, str]:
    headers = {"WWW-Authenticate": 'Bearer realm="weightvault"'}
    if BASIC_ALLOWED in request.scope:
        # git-lfs asks for a user and a password upon this; browsers do not know the header.
        headers["LFS-Authenticate"] = 'Basic realm="weightvault: a token as password"'
    return headers
