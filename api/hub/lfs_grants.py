"""Addresses of files that git-lfs is sent to: signed for one file of one repo, for a day.

Such an address is used without a token. It stands for the one that asked for it, by its id, and
ends when that token is revoked or expires, or may no longer do what the address is for.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

from fastapi import Request

from ..requests.access import require_read, require_read_as, require_write_as, right
from ..requests.callers import Caller, caller_of, note_caller
from .errors import HubError
from .signing import InvalidSignature
from .state import hub_of

SECONDS = 24 * 3600
"""How long an address holds."""

_UPLOAD, _DOWNLOAD = "lfs upload", "lfs download"


def sign_upload(request: Request, repo: str, oid: str, *what: Any) -> str:
    """Returns the `token` parameter of an address that `what` may be sent to."""
    return _sign(request, _UPLOAD, repo, oid, *what)


def sign_download(request: Request, repo: str, oid: str) -> str:
    """Returns the `token` parameter of an address that the file may be had from."""
    return _sign(request, _DOWNLOAD, repo, oid)


def granted(request: Request) -> list[Any]:
    """Returns what a request's address was signed for: repo, oid, and `what`."""
    return request.state.granted


@right
def holds_upload(request: Request) -> None:
    """Whoever has an address signed for sending a whole file."""
    _hold_upload(request, 1)


@right
def holds_parts_upload(request: Request) -> None:
    """Whoever has an address signed for sending a file in parts."""
    _hold_upload(request, 3)


@right
def holds_download_or_reads(request: Request) -> None:
    """Whoever has an address signed for getting a file, or may read the repo of the path."""
    repo = request.path_params["repo"]
    if "token" in request.query_params:
        require_read_as(request, _accept(request, _DOWNLOAD, 0), repo)
    else:
        require_read(request, repo)


def _hold_upload(request: Request, count: int) -> None:
    caller = _accept(request, _UPLOAD, count)
    require_write_as(request, caller, request.path_params["repo"])


def _sign(request: Request, purpose: str, *claims: Any) -> str:
    signed = [caller_of(request).token_id, *claims]
    text = hub_of(request).signer.sign(purpose, signed, time.time() + SECONDS)
    return quote(text, safe="")


def _accept(request: Request, purpose: str, count: int) -> Caller:
    """Puts down what the address of a request was signed for, repo, oid and `count` things more,
    and returns whom it stands for."""
    hub, params = hub_of(request), request.path_params
    try:
        signed = hub.signer.verify(purpose, request.query_params.get("token", ""))
    except InvalidSignature as error:
        raise HubError(403, f"this address is not valid: {error}") from error
    if len(signed) != 3 + count or signed[1:3] != [params["repo"], params["oid"]]:
        raise HubError(403, "this address was signed for another file")
    caller = request.app.state.gate.grantee(request, signed[0])
    if caller is None:
        raise HubError(403, "this address ended with the token that it was signed for")
    request.state.granted = signed[1:]
    note_caller(request, caller)
    return caller
