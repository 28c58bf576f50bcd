"""Turns templates into responses: filters, headers, error pages."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ... import __version__
from ...dedup.errors import VaultError
from ...dedup.model.words import WORDS
from ...store.repo_names import RepoName
from ..errors import http_status
from ..formatting import format_bytes, format_count, format_money, format_percent
from ..requests.public_errors import public_error
from ..requests.root_path import root_path
from .addresses import page_url, repo_url, sign_in_url, static_url

# Scripts and styles are files of ours, images those that cards may show; nothing else is loaded,
# nothing is sent anywhere, nobody frames a page.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    # A page shows what its reader may see at this moment.
    "Cache-Control": "private, no-cache",
    "Vary": "Cookie, Authorization",
}


def render(request: Request, template: str, status: int = 200, /, **values: Any) -> HTMLResponse:
    """Returns the page that `template` makes of `values`."""
    caller = getattr(request.state, "caller", None)
    common = {
        "request": request,
        "server_url": _server_url(request),
        "anonymous": caller is not None and caller.role is None,
        "signed_in_as": caller.name if caller and _signed_in(request) else None,
    }
    page = templates().get_template(template).render(common, **values)
    return HTMLResponse(page, status, HEADERS)


def _server_url(request: Request) -> str:
    """Returns the address that people are told to use: that of the request where the server knows
    itself by it, else the one that the connection came to."""
    if request.app.state.gate.hosts.covers(request):
        return str(request.base_url).rstrip("/")
    host, port = request.scope.get("server") or ("localhost", None)
    named = f"[{host}]" if ":" in host else host
    return f"{request.url.scheme}://{named}" + (f":{port}" if port else "") + root_path()


def _signed_in(request: Request) -> bool:
    return getattr(request.state, "signed_in", False)


def render_error(request: Request, error: VaultError) -> HTMLResponse:
    """Returns the page that says what failed."""
    status = http_status(type(error))
    error = public_error(error, request.app.state.vault)
    return render(request, "error.html", status, code=status, error=error)


@cache
def templates() -> Environment:
    """The templates, with everything they may use."""
    made = Environment(
        loader=PackageLoader("weightvault.api.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "bytes": format_bytes,
        "repo_name": RepoName.of,
        "money": format_money,
        "number": format_number,
        "ratio": format_ratio,
        "when": format_time,
        "shape": format_shape,
    }
    made.globals |= {
        "count": format_count,
        "percent": format_percent,
        "page_url": page_url,
        "repo_url": repo_url,
        "sign_in_url": sign_in_url,
        "static_url": static_url,
        "version": __version__,
        "word": WORDS.__getitem__,
    }
    return made


def format_number(number: int) -> str:
    """Returns a whole number with its thousands apart."""
    return f"{number:,}".replace(",", "\u202f")


def format_ratio(raw: int, stored: int) -> str:
    """Returns how many times smaller something is stored than it is; a dash for nothing."""
    if not raw or not stored:
        return "–"
    ratio = raw / stored
    return f"{ratio:.0f}×" if ratio >= 100 else f"{ratio:.1f}×" if ratio >= 10 else f"{ratio:.2f}×"


def format_time(seconds: float) -> Markup:
    """Returns a moment as an element that programs can read, in UTC."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        moment.isoformat(timespec="seconds"), moment.strftime("%Y-%m-%d %H:%M")
    )


def format_shape(shape: tuple[int, ...]) -> str:
    """Returns a tensor's shape; a scalar has none."""
    return " × ".join(map(str, shape)) if shape else "scalar"
