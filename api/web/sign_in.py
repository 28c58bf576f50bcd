"""The form that takes a token and begins a session, and the button that ends it."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from ..requests.access import needs, public_endpoint, sees_own
from ..requests.origins import takes_forms
from ..requests.root_path import under_root
from ..requests.tokens import recognise
from ..requests.uploads import received_bytes
from .addresses import SIGN_IN
from .paging import PageRoute
from .rendering import render
from .session import COOKIE, SESSION_SECONDS, begin_session, finish_session

_MAX_FORM_BYTES = 8192

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get(SIGN_IN, dependencies=needs(sees_own))
def show_form(request: Request, to: str = "/") -> Response:
    """The form that takes a token."""
    return render(request, "sign_in.html", to=_local(to), failed=False)


@router.post(SIGN_IN, dependencies=needs(public_endpoint))
@takes_forms
async def sign_in(request: Request) -> Response:
    """Begins a session with the token of the form."""
    body = await received_bytes(request, _MAX_FORM_BYTES)
    return await run_in_threadpool(_sign_in, request, parse_qs(body.decode(errors="replace")))


def _sign_in(request: Request, form: dict[str, list[str]]) -> Response:
    to = _local(form.get("to", ["/"])[0])
    row = recognise(request.app.state.vault, form.get("token", [""])[0].strip())
    if row is None:
        return render(request, "sign_in.html", 401, to=to, failed=True)
    finish_session(request)
    response = RedirectResponse(under_root(to), 303)
    response.set_cookie(
        COOKIE,
        begin_session(request, row),
        max_age=SESSION_SECONDS,
        path=under_root("/"),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response


@router.post("/-/sign-out", dependencies=needs(public_endpoint))
@takes_forms
def sign_out(request: Request) -> Response:
    """Ends the session."""
    finish_session(request)
    response = RedirectResponse(under_root("/"), 303)
    response.delete_cookie(COOKIE, path=under_root("/"), httponly=True, samesite="strict")
    return response


def _local(address: str) -> str:
    """Returns an address on this server: where to go after signing in comes from outside."""
    plain = address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if plain and address.isprintable() else "/"
