"""Who looks at a page: somebody with a token, who signed in with it, or anybody.

The cookie says which token it was, signed, for half a day; the token itself is not in it, and a
revoked one ends its sessions at once. Only pages know the cookie, and pages only read, so what
another site makes a browser send changes nothing.
"""

from __future__ import annotations

import time

from fastapi import Request

from ...dedup.translate import store_errors
from ...store.tokens import TokenRow, find_token
from ..callers import note_caller
from ..hub.signing import InvalidSignature
from ..hub.state import hub_of

COOKIE = "weightvault-session"
SESSION_SECONDS = 12 * 3600

_PURPOSE = "pages"


def begin_session(request: Request, row: TokenRow) -> str:
    """Returns the cookie of a new session with a token."""
    signer = hub_of(request).signer
    return signer.sign(_PURPOSE, row.hash.hex(), time.time() + SESSION_SECONDS)


def admit(request: Request) -> None:
    """Notes who sent a request for a page, where somebody who signed in did."""
    row = _signed_in(request)
    if row is not None:
        request.state.signed_in = True
        note_caller(request, request.app.state.gate.holder(row))


def _signed_in(request: Request) -> TokenRow | None:
    """Returns the token that the session's cookie stands for, if it still holds."""
    cookie = request.cookies.get(COOKIE)
    if cookie is None or "authorization" in request.headers:
        return None
    try:
        digest = bytes.fromhex(hub_of(request).signer.verify(_PURPOSE, cookie))
    except (InvalidSignature, ValueError):
        return None
    with store_errors():
        row = find_token(request.app.state.vault.catalogue, digest)
    return row if row is not None and row.revoked is None else None
