"""Who looks at a page: somebody with a token, who signed in with it, or anybody.

The cookie says which token it was, signed, for half a day; the token itself is not in it. The
session ends at once with the token, and when somebody signs out: the catalogue knows which
sessions did. Only pages know the cookie, and pages only read, so what another site makes a browser
send changes nothing.
"""

from __future__ import annotations

import secrets
import time

from fastapi import Request

from ...store.catalogue.access.sessions import end_session, is_ended
from ...store.catalogue.tokens import TokenRow, find_token_by_id
from ..hub.signing import InvalidSignature
from ..hub.state import hub_of
from ..requests.callers import note_caller

COOKIE = "weightvault-session"
SESSION_SECONDS = 12 * 3600

_PURPOSE = "pages"


def begin_session(request: Request, row: TokenRow) -> str:
    """Returns the cookie of a new session with a token."""
    expires = time.time() + SESSION_SECONDS
    claims = [row.id, secrets.token_hex(16), hub_of(request).session_epoch, expires]
    return hub_of(request).signer.sign(_PURPOSE, claims, expires)


def finish_session(request: Request) -> None:
    """Ends the session of a request, if there is one: its cookie is worth nothing from now on, on
    all servers of the catalogue."""
    claims = _claims(request)
    if claims is not None:
        _, session, _, expires = claims
        end_session(request.app.state.vault.catalogue, session, expires, time.time())


def admit(request: Request) -> None:
    """Notes who sent a request for a page, where somebody who signed in did."""
    row = None if "authorization" in request.headers else _signed_in(request)
    if row is not None:
        request.app.state.gate.check_journal(request.app.state.vault)
        request.state.signed_in = True
        vault = request.app.state.vault
        note_caller(request, request.app.state.gate.holder(vault, row))


def _signed_in(request: Request) -> TokenRow | None:
    """Returns the token that the session's cookie stands for, if both still hold."""
    claims = _claims(request)
    if claims is None:
        return None
    token, session, epoch, _ = claims
    catalogue = request.app.state.vault.catalogue
    row = find_token_by_id(catalogue, token)
    if row is None or not row.is_valid(time.time()) or is_ended(catalogue, session):
        return None
    return row if epoch == hub_of(request).session_epoch else None


def _claims(request: Request) -> tuple[str, str, str, float] | None:
    """Returns what the cookie of a request was signed for: the id of a token, that of the session,
    the epoch of sessions, and when it expires. None where there is no valid one."""
    cookie = request.cookies.get(COOKIE)
    if cookie is None:
        return None
    try:
        token, session, epoch, expires = hub_of(request).signer.verify(_PURPOSE, cookie)
    except (InvalidSignature, ValueError, TypeError):
        return None
    return token, session, epoch, expires
