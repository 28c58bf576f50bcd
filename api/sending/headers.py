"""Headers that keep browsers and caches from making more of an answer than it is.

Every answer says that its type is what it says, and that no shared cache may hand it to somebody
else. An answer with content of a repo is in addition something to save, never to show or to run.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders

NO_CONTENT_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""What an answer that is no page may load and do in a browser: nothing."""

# The content never changes, but a repo can become private.
_PINNED_SECONDS = 24 * 3600
# Characters that every parser of a quoted name takes for themselves.
_UNSAFE = re.compile(r"[^A-Za-z0-9._+@ -]")
_MAX_NAME = 120


def file_headers(asked: Headers, etag: str, name: str, *, pinned: bool) -> dict[str, str]:
    """Returns the headers of an answer with content of a repo.

    `asked` are the request's headers, `etag` says which bytes these are, `name` is what to save
    them as. `pinned`: the address names the content, or a commit, so that it never changes.
    """
    return {
        "ETag": f'"{etag}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": attachment(name),
        "Cache-Control": _cache_control(asked, pinned),
    }


def attachment(name: str) -> str:
    """Returns the Content-Disposition of something to save as `name` (RFC 6266), which comes from
    outside: the name as all clients read it, and in full."""
    name = name[-_MAX_NAME:]
    plain = _UNSAFE.sub("_", name) or "file"
    whole = quote(name.encode(errors="replace"), safe="")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{whole}"


def _cache_control(asked: Headers, pinned: bool) -> str:
    """Answers for whoever shows who they are stay with them; others are for everybody."""
    if "authorization" in asked or "cookie" in asked:
        return "private, no-store"
    return f"public, max-age={_PINNED_SECONDS}, immutable" if pinned else "no-cache"


def complete_headers(headers: MutableHeaders, asked: Headers) -> None:
    """Adds to an answer's headers those that it lacks; `asked` are the request's."""
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Content-Security-Policy", NO_CONTENT_POLICY)
    headers.setdefault("Referrer-Policy", "same-origin")
    headers.setdefault("Cache-Control", _cache_control(asked, pinned=False))
    named = {each.strip().lower() for each in headers.get("Vary", "").split(",")}
    for name in ("Authorization", "Cookie"):
        if name.lower() not in named:
            headers.add_vary_header(name)
