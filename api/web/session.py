"""Who looks at a page: somebody with a token, who signed in with it, or anybody.

The cookie says which token it was, signed, for half a day; the token itself is not in it, and a
revoked one ends its sessions at once. Only pages know the cookie, and pages only read, so what
another site makes a browser send changes nothing.
"""

from __future__ import annotations

import time
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from ...dedup.errors import AccessRefused
from ...dedup.translate import store_errors
from ...store.tokens import TokenRow, find_token
from ..access import Caller, caller_of, require_read
from ..errors import Unauthorized
from ..hub.signing import InvalidSignature
from ..hub.state import hub_of
from ..tokens import recognise
from ..uploads import received_bytes
from .addresses import SIGN_IN
from .paging import PageRoute
from .rendering import render

COOKIE = "weightvault-session"

_PURPOSE = "pages"
_SECONDS = 12 * 3600
_MAX_FORM_BYTES = 8192

router = APIRouter(include_in_schema=False, route_class=PageRoute)


def admit(request: Request) -> Caller:
    """Lets a request for a page through if whoever sent it may see that; returns who it was.
    Raises RepoNotFound for a repo they may not read, as if there were none."""
    row = _signed_in(request)
    if row is not None:
        request.state.caller = request.app.state.gate.holder(row)
        request.state.signed_in = True
    caller, params = caller_of(request), request.path_params
    if "namespace" in params:
        require_read(request, f"{params['namespace']}/{params['name']}")
    return caller


CallerParam = Annotated[Caller, Depends(admit)]


def require_all(caller: Caller, what: str) -> None:
    """Raises Unauthorized or AccessRefused unless somebody may see every repo; `what` tells of
    all of them."""
    if caller.reads_all:
        return
    if caller.role is None:
        raise Unauthorized(f"{what} tells of all models and needs a token", "sign in with one")
    raise AccessRefused(
        f"{what} tells of all models, and this token is for {caller.namespace}",
        "sign in with one that is for no single namespace",
    )


@router.get(SIGN_IN)
def show_form(request: Request, caller: CallerParam, to: str = "/") -> Response:
    """The form that takes a token."""
    return render(request, "sign_in.html", to=_local(to), failed=False)


@router.post(SIGN_IN)
async def sign_in(request: Request) -> Response:
    """Begins a session with the token of the form."""
    _require_same_site(request)
    form = parse_qs((await received_bytes(request, _MAX_FORM_BYTES)).decode(errors="replace"))
    to = _local(form.get("to", ["/"])[0])
    row = recognise(request.app.state.vault, form.get("token", [""])[0].strip())
    if row is None:
        return render(request, "sign_in.html", 401, to=to, failed=True)
    response = RedirectResponse(to, 303)
    signer = hub_of(request).signer
    response.set_cookie(
        COOKIE,
        signer.sign(_PURPOSE, row.hash.hex(), time.time() + _SECONDS),
        max_age=_SECONDS,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response


@router.post("/-/sign-out")
def sign_out(request: Request) -> Response:
    """Ends the session."""
    _require_same_site(request)
    response = RedirectResponse("/", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


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


def _require_same_site(request: Request) -> None:
    """Raises AccessRefused for a form that another site sent."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site", "same-origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign or site != "same-origin":
        raise AccessRefused("this form came from another site", "use the form of this one")


def _local(address: str) -> str:
    """Returns an address on this server: where to go after signing in comes from outside."""
    plain = address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if plain and address.isprintable() else "/"
