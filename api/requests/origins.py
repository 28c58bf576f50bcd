"""Refuses what pages of other sites make a browser send.

A browser adds `Sec-Fetch-Site`, and `Origin` to whatever may change something; no other client
sends the first, few the second. Forms, the one way to send a body to another site without being
asked first, know three types of it. Nothing here answers a question of CORS: no page of another
site may read anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from fastapi import Request

from ...dedup.errors import AccessRefused
from ..errors import UnsupportedType

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., object])

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_FORM_TYPES = ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded")
_TAKES_FORMS = "weightvault_takes_forms"


def takes_forms(endpoint: _Endpoint) -> _Endpoint:
    """Marks an endpoint whose clients send forms: one that changes nothing, or is for browsers."""
    setattr(endpoint, _TAKES_FORMS, True)
    return endpoint


def refuse_foreign_pages(request: Request) -> None:
    """Raises AccessRefused for a request that may change something and that a page of another site
    sent, UnsupportedType for one whose body is of a form, unless its endpoint takes forms."""
    if request.method in _SAFE_METHODS:
        return
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site", "same-origin")
    foreign = origin is not None and not _is_own(request, _authority(origin))
    if foreign or site not in ("same-origin", "none"):
        raise AccessRefused(
            "a page of another site sent this request", "send it from here, or from a program"
        )
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _FORM_TYPES and not hasattr(request.scope.get("endpoint"), _TAKES_FORMS):
        raise UnsupportedType(
            f"a body of type {kind} is not taken here", "send application/json, or binary data"
        )


def _authority(origin: str) -> str:
    """Returns the host and port of an origin, "" where it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _is_own(request: Request, authority: str) -> bool:
    """Says whether a page of that authority is one of this server's: what it was asked under, or
    a name of its own, which a reverse proxy may have replaced."""
    own = authority and authority == request.headers.get("host")
    return bool(own) or request.app.state.gate.hosts.names(authority)
