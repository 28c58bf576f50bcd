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
    start = _cursor(request.query_params.get("cursor"))
    page = list(items[start : start + limit])
    if start + limit >= len(items):
        return page, {}
    query = [(k, v) for k, v in request.query_params.multi_items() if k != "cursor"]
    query.append(("cursor", urlsafe_b64encode(str(start + limit).encode()).decode()))
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    path = raw.partition(b"?")[0].decode("ascii")
    return page, {"Link": f'<{base_url(request)}{path}?{urlencode(query)}>; rel="next"'}


def _cursor(text: str | None) -> int:
    if text is None:
        return 0
    try:
        return max(0, int(urlsafe_b64decode(text)))
    except ValueError as error:
        raise HubError(400, "the cursor is none of this server") from error
