"""From kinds of failure to HTTP statuses and the one error body, and back.

Every response with a status of 400 or more has this JSON body, whatever went wrong:

    {"error": {"code": "repo_not_found", "message": "what failed", "hint": "what to do" or null}}

`code` is stable: that of a kind of dedup.errors, or one of HTTP_CODES. Programs go by the code,
people read the message.
"""

from __future__ import annotations

import math
from typing import Any

from ..dedup import errors as kinds
from ..dedup.errors import AccessRefused, InvalidInput, Unreachable, VaultError, error_classes
from ..store.errors import DENIED_ERRNOS, FULL_ERRNOS


class TooLarge(InvalidInput):
    """A request body beyond the limit of its endpoint."""

    code = "too_large"


class Unauthorized(AccessRefused):
    """A request without a token where one is needed, or with one that is none."""

    code = "unauthorized"


class Busy(Unreachable):
    """The server has too much to do at this moment."""

    code = "busy"


class Overloaded(Unreachable):
    """The server has too much to check, or stops; it takes the same request again later."""

    code = "overloaded"


class RateExceeded(Busy):
    """A namespace asks for more than its quota allows; `retry_seconds` until it may again."""

    code = "rate_exceeded"

    def __init__(
        self, message: str, hint: str | None = None, *, retry_seconds: float = 1.0
    ) -> None:
        super().__init__(message, hint or "try again later, or ask the operator for more")
        self.retry_seconds = retry_seconds


class UpstreamFailed(Unreachable):
    """The hub that is mirrored does not answer, or not as hubs do."""

    code = "upstream_failed"


class UnsafeAddress(UpstreamFailed):
    """The hub that is mirrored leads to an address that it has no business with."""

    code = "unsafe_address"


class UpstreamRefused(VaultError):
    """The hub that is mirrored says no: `status`, the code it has for that, and after how many
    seconds it may be asked again, where it says so."""

    code = "upstream_refused"

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        status: int = 502,
        hub_code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.hub_code = hub_code
        self.retry_after = retry_after


class UnsupportedType(InvalidInput):
    """A request body of a type that its endpoint does not take."""

    code = "unsupported_type"


class RangeNotSatisfiable(InvalidInput):
    """A Range header that asks for bytes beyond the end; `size` is the length there is."""

    code = "range_not_satisfiable"

    def __init__(self, message: str, hint: str | None = None, *, size: int = 0) -> None:
        super().__init__(message, hint)
        self.size = size


HTTP_CODES = {
    "invalid_request": 422,
    "unknown_endpoint": 404,
    "method_not_allowed": 405,
    "http_error": 400,
    "internal": 500,
}
"""Codes of failures that are no VaultError, with their statuses."""

# Looked up from the class towards VaultError, so a kind added later gets its parent's status.
_STATUS: dict[type[VaultError], int] = {
    VaultError: 500,
    kinds.InvalidInput: 400,
    TooLarge: 413,
    kinds.TooExpensive: 413,
    kinds.BaseMissing: 409,
    UnsupportedType: 415,
    RangeNotSatisfiable: 416,
    kinds.Missing: 404,
    # The commit would succeed after another upload: the request clashes with the present state.
    kinds.ChunksMissing: 409,
    kinds.Conflict: 409,
    kinds.Unreachable: 503,
    UpstreamFailed: 502,
    UpstreamRefused: 502,
    kinds.StorageFull: 507,
    # The same request fails until something is deleted: clients try 5xx again for minutes.
    kinds.QuotaExceeded: 413,
    kinds.AccessRefused: 403,
    Unauthorized: 401,
    Busy: 429,
    kinds.Corrupt: 500,
    kinds.JournalCut: 503,
}

# Longer than any of ours, which name ten files at most.
_MOST_MESSAGE_CHARS = 16_384
# Names and paths are shorter; what else is repeated of a request may be all of it.
_MAX_MESSAGE = 2000


def retry_seconds(error: VaultError) -> int:
    """Returns after how many seconds a request that met this error is worth sending again."""
    return math.ceil(getattr(error, "retry_seconds", 1.0))


def http_status(kind: type[VaultError]) -> int:
    """Returns the HTTP status that an error of this kind is answered with."""
    return next(_STATUS[cls] for cls in kind.__mro__ if cls in _STATUS)


def error_body(code: str, message: str, hint: str | None = None) -> dict[str, Any]:
    """Returns the error body as a JSON-able value; what is long is cut, as it repeats input."""
    return {"error": {"code": code, "message": cut_message(message), "hint": hint}}


def cut_message(message: str) -> str:
    """Returns the part of a message that is sent to clients."""
    return message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]} …"


def parse_error(body: Any, status: int) -> VaultError | None:
    """Returns the error that an error body stands for; None if `body` is not an error body.

    A code this version does not know becomes InvalidInput below status 500 and VaultError from
    there on.
    """
    try:
        code, message, hint = (body["error"][key] for key in ("code", "message", "hint"))
    except (KeyError, TypeError):
        return None
    known = error_classes().get(str(code))
    kind = known or (InvalidInput if status < 500 else VaultError)
    return kind(_one_line(message), None if hint is None else _one_line(hint))


def _one_line(text: Any) -> str:
    """Returns what a server says of a failure as a paragraph of bounded length: it is shown as
    ours is, and must not pass for more than a message."""
    return " ".join(str(text)[:_MOST_MESSAGE_CHARS].splitlines())


def from_os_error(error: OSError, doing: str) -> VaultError:
    """Returns the kind for an error of the operating system; `doing` says what failed."""
    message = f"{doing}: {error.strerror or error}"
    if error.errno in FULL_ERRNOS:
        return kinds.StorageFull(message, "free some space, then run the command again")
    if error.errno in DENIED_ERRNOS:
        return kinds.AccessRefused(message, "check the permissions and who runs this command")
    return VaultError(message)
