"""Which requests may read guarded repos, on whatever route: those that show a token of the upstream
which it lets read them."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from ..requests.audit import who_asks
from ..requests.callers import Caller
from .mirror import Credential, Mirror

TOKEN_HEADER = "X-Weightvault-Upstream-Token"
"""Where callers who show a token of this server have theirs of the upstream."""


def credential_of(request: HTTPConnection, mirror: Mirror, caller: Caller) -> Credential:
    """Returns with what the upstream is asked for a caller.

    A server without tokens of its own takes the token of Authorization for one of the upstream. The
    server's token stands for those who show none and hold a token for the whole vault, or are let
    do everything.
    """
    own = request.headers.get(TOKEN_HEADER)
    if own is None and caller.token_id is None and caller.role is not None:
        scheme, _, value = request.headers.get("authorization", "").strip().partition(" ")
        own = value.strip() if scheme.lower() == "bearer" else None
    if not own and caller.role is not None and caller.reads_all:
        own = mirror.token
    return Credential(own or None, who_asks(request))


def lets_read(request: HTTPConnection, caller: Caller, repo: str) -> bool:
    """Says whether a caller may read a guarded repo; nobody may where nothing is mirrored."""
    mirror: Mirror | None = request.app.state.mirror
    if mirror is None:
        return False
    return mirror.lets_read(repo, credential_of(request, mirror, caller))
