"""The HTTP application: routers, error bodies, health.

Other protocols over the same vault are further routers: `create_app` is where they join.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from http import HTTPStatus

from anyio import CapacityLimiter
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ... import __version__
from ...dedup.errors import VaultError
from ...dedup.local_vault import LocalVault
from ...dedup.maintenance.background_encode import BackgroundEncoder
from ...store.cancel import CancelToken
from ...store.errors import FULL_ERRNOS, from_os_error
from ..errors import (
    HTTP_CODES,
    Busy,
    Overloaded,
    RangeNotSatisfiable,
    Unauthorized,
    error_body,
    http_status,
    retry_seconds,
)
from ..hub.router import bare_routes, hub_routes, unknown_route
from ..mirror.guard import lets_read
from ..mirror.mirror import Mirror
from ..protocol.wire import VERSION_HEADER
from ..requests.access import declare_public, require_rights, routes_of
from ..requests.callers import Gate
from ..requests.hosts import Hosts
from ..requests.public_errors import public_error
from ..requests.quotas import Quotas
from ..requests.root_path import RootPath
from ..requests.settings import ServerSettings
from ..requests.slots import Slots
from ..requests.uploads import sweep_uploads
from ..sending.downloads import Downloads
from ..sending.headers import complete_headers
from ..v1 import bills, content, health, jobs, refs, reports, routes, tokens
from ..web.site import add_pages
from . import metrics
from .background import working
from .envelope import Envelope
from .jobs import JobRunner
from .metrics import Metrics
from .noting_heads import noting_heads

_log = logging.getLogger("weightvault.api")

# Never Basic: browsers would ask for a password, and send it along with what any page makes them
# send.
_CHALLENGE = 'Bearer realm="weightvault"'

# Threads of their own for who watches the server.
_PROBES_AT_ONCE = 2

_DESCRIPTION = """\
Stores AI model weights losslessly in a fraction of their size and gives back the very bytes.

Every response with a status of 400 or more has the body
`{"error": {"code": "...", "message": "...", "hint": "..."}}`; `code` is stable.
"""


def create_app(vault: LocalVault, settings: ServerSettings | None = None) -> FastAPI:
    """Returns the application that serves `vault`, which stays the caller's to close."""
    settings = settings or ServerSettings()
    app = FastAPI(
        title="weightvault",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=_lifespan,
        servers=[{"url": settings.root_path}] if settings.root_path else None,
        # FastAPI's own load scripts from elsewhere; web/reference.py takes their place.
        docs_url=None,
        redoc_url=None,
    )
    for route in app.routes:
        # The description of the API, which tells of no vault.
        declare_public(route)
    app.state.vault = vault
    app.state.settings = settings
    app.state.gate = Gate(settings.anonymous_reads, Hosts(settings.allowed_hosts))
    app.state.checking = Slots(settings.checks_at_once)
    app.state.work, app.state.upkeep = CancelToken(), CancelToken()
    app.state.encoder = BackgroundEncoder(vault, within=app.state.upkeep)
    app.state.jobs = JobRunner(lambda: app.state.vault, within=app.state.upkeep)
    app.state.probes = CapacityLimiter(_PROBES_AT_ONCE)
    app.state.health = health.HealthProbe()
    app.state.downloads = Downloads(settings.download_bytes)
    app.state.mirror = _make_mirror(app)
    app.state.lets_read = lets_read
    app.state.metrics = Metrics(app, shared=settings.workers > 1)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(routes.router)
    app.include_router(reports.router)
    app.include_router(bills.router)
    app.include_router(jobs.router)
    app.include_router(tokens.router)
    for router in (*routes.of_repo.routers, *content.of_repo.routers, *refs.of_repo.routers):
        app.include_router(router)
    app.router.routes.extend([*hub_routes(), unknown_route()])
    add_pages(app)
    app.router.routes.extend(bare_routes())
    app.add_middleware(Envelope, metrics=app.state.metrics, within=app.state.work)
    if settings.root_path:
        app.add_middleware(RootPath, root_path=settings.root_path)
    _install_error_handlers(app)
    require_rights(app)
    return app


def _make_mirror(app: FastAPI) -> Mirror | None:
    settings: ServerSettings = app.state.settings
    if settings.upstream is None:
        return None
    app.state.quotas = Quotas(app.state.vault, settings.reserve_bytes)
    inline = settings.ingest == "inline"
    return Mirror(app.state.vault, settings.upstream, app.state.quotas, inline=inline)


def endpoints(app: FastAPI) -> set[tuple[str, str]]:
    """Returns every documented endpoint as method and path, such as ("GET", "/v1/repos")."""
    paths = app.openapi()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    await run_in_threadpool(sweep_uploads, app.state.vault.scratch)
    upkeep: CancelToken = app.state.upkeep
    # Around what is cancelled: the heads are noted after all that a server does.
    async with noting_heads(lambda: app.state.vault), app.state.metrics.kept():
        async with _background(app):
            yield
            app.state.work.cancel()
            upkeep.cancel()
        if app.state.mirror is not None:
            await run_in_threadpool(app.state.mirror.close)


def _background(app: FastAPI) -> AbstractAsyncContextManager[None]:
    """Returns what does the work in the background, if this process is to."""
    if not app.state.settings.background:
        return nullcontext()
    state = app.state
    return working(lambda: state.vault, state.encoder, state.jobs, state.upkeep)


def _install_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(VaultError, _on_vault_error)
    app.add_exception_handler(OSError, _on_os_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_unexpected)


def _error(
    status: int,
    code: str,
    message: str,
    hint: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    return JSONResponse(error_body(code, message, hint), status, headers)


def _on_vault_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, VaultError)
    status = http_status(type(error))
    if status >= 500:
        _log.error("%s %s: %s: %s", request.method, request.url.path, error.code, error.message)
    headers = None
    if isinstance(error, RangeNotSatisfiable):
        headers = {"Content-Range": f"bytes */{error.size}"}
    if isinstance(error, Busy | Overloaded):
        headers = {"Retry-After": str(retry_seconds(error))}
    if isinstance(error, Unauthorized):
        headers = {"WWW-Authenticate": _CHALLENGE}
    error = public_error(error, request.app.state.vault)
    return _error(status, error.code, error.message, error.hint, headers)


def _on_os_error(request: Request, error: Exception) -> Response:
    """A disk that is full is no fault of this program, wherever it shows."""
    assert isinstance(error, OSError)
    if error.errno not in FULL_ERRNOS:
        raise error
    return _on_vault_error(request, from_os_error(error, "cannot write a file"))


def _on_invalid_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # What was sent is not repeated: it may be large, and may not be text.
    found = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5]]
    hint = "the request's schema is at /docs"
    return _error(422, "invalid_request", f"invalid request: {'; '.join(found)}", hint)


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {status: code for code, status in HTTP_CODES.items()}
    code = codes.get(error.status_code, "http_error")
    asked = f"{request.method} {request.url.path}"
    message, hint = f"{error.detail}: {asked}", None
    if code in ("unknown_endpoint", "method_not_allowed"):
        message, hint = f"there is no endpoint {asked}", "the endpoints are listed at /docs"
    headers = dict(error.headers) if error.headers else {}
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers |= _allowed(request)
    return _error(error.status_code, code, message, hint, headers)


def _allowed(request: Request) -> dict[str, str]:
    """Returns the header with the methods of all routes of an address; Starlette knows one."""
    path = getattr(request.scope.get("route"), "path_format", None)
    if path is None:
        return {}
    same = (r for r in routes_of(request.app) if getattr(r, "path_format", None) == path)
    return {"Allow": ", ".join(sorted(set().union(*(route.methods for route in same))))}


def _on_disconnect(request: Request, _error: Exception) -> Response:
    _log.info("%s %s: the client went away", request.method, request.url.path)
    return Response(status_code=499)


def _on_unexpected(request: Request, _exception: Exception) -> Response:
    # The exception goes on to the server that runs this application, which logs its traceback.
    headers = {VERSION_HEADER: __version__}
    hint = "the server's log has the details"
    response = _error(500, "internal", "the server failed unexpectedly", hint, headers)
    # It is made outside of what all other answers pass.
    complete_headers(response.headers, request.headers)
    return response
