"""What requests ask of lists: flags, numbers, pages."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import urlencode

from starlette.requests import Request

from ..errors import HubError
from ..state import base_url

_T = TypeVar("_T")


def asks_for(request: Request, name: str) -> bool:
    """Says whether a request's query has a flag."""
    return request.query_params.get(name, "").lower() == "true"


def read_number(text: str | None, default: int, *, most: int) -> int:
    """Returns the number from 1 to `most` nearest to what a text says, `default` for no number."""
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 9:
        return default
    return max(1, min(int(text), most))


def cut_page(request: Request, items: Sequence[_T], limit: int) -> tuple[list[_T], dict[str, str]]:
    """Returns the items from where the request's cursor says, and the link to the next ones."""
    try:
        start = max(0, int(read_cursor(request) or 0))
    except ValueError as error:
        raise no_such_cursor() from error
    page = list(items[start : start + limit])
    return page, link_next(request, str(start + limit)) if start + limit < len(items) else {}


def link_next(request: Request, cursor: str) -> dict[str, str]:
    """Returns the header that links to the page after `cursor`, a text that read_cursor gives."""
    query = [(k, v) for k, v in request.query_params.multi_items() if k != "cursor"]
    query.append(("cursor", urlsafe_b64encode(cursor.encode()).decode()))
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    path = raw.partition(b"?")[0].decode("ascii")
    return {"Link": f'<{base_url(request)}{path}?{urlencode(query)}>; rel="next"'}


def read_cursor(request: Request) -> str | None:
    """Returns what a link to a page said that it begins after; None for the first page."""
    text = request.query_params.get("cursor")
    try:
        found = None if text is None else urlsafe_b64decode(text).decode()
    except ValueError as error:
        raise no_such_cursor() from error
    if found is not None and "\0" in found:
        raise no_such_cursor()
    return found


def no_such_cursor() -> HubError:
    """Returns the failure of a request with a cursor that no link had."""
    return HubError(400, "the cursor is none of this server")
