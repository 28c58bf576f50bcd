"""The pages about the whole vault: the list of repos and the storage dashboard."""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from ...dedup.errors import InvalidInput, VaultError
from ...dedup.reports.prices import StorageClass, load_prices
from ...store.catalogue.reports.pages import Order, count_repos, list_page
from .. import config
from ..report_text import price_report
from ..requests.access import needs, reads_everything, sees_own
from ..requests.callers import caller_of
from ..v1.reports import quotas_seen
from ..v1.routes import VaultParam
from .figures import draw_all
from .paging import PageRoute
from .recent import recent_report
from .rendering import render

PAGE = 30
_MAX_SEARCH = 200
_log = logging.getLogger("weightvault.api")
# A repo's name and a commit id.
_MAX_CURSOR = 300

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/", dependencies=needs(sees_own))
def list_repos(
    request: Request,
    vault: VaultParam,
    q: Annotated[str, Query(max_length=_MAX_SEARCH)] = "",
    order: Order = "updated",
    after: Annotated[str | None, Query(max_length=_MAX_CURSOR)] = None,
    before: Annotated[str | None, Query(max_length=_MAX_CURSOR)] = None,
) -> Response:
    """The front page: repos, searched, in an order, a page at a time."""
    caller = caller_of(request)
    search, cursor, seen = q.strip(), before or after, caller.scope
    total = count_repos(vault.catalogue, search, seen)
    try:
        lines = list_page(
            vault.catalogue,
            order=order,
            search=search,
            cursor=cursor,
            backwards=before is not None,
            limit=PAGE + 1,
            seen=seen,
        )
    except ValueError as error:
        raise InvalidInput("there is no such page of the list") from error
    more = len(lines) > PAGE
    lines = lines[-PAGE:] if before else lines[:PAGE]
    return render(
        request,
        "front.html",
        search=search,
        order=order,
        lines=lines,
        frames=caller.reads_all,
        quotas=[] if caller.reads_all else quotas_seen(vault, caller),
        total=total,
        newer=lines[0].cursor if lines and (after or (before and more)) else None,
        older=lines[-1].cursor if lines and (more or before) else None,
    )


@router.get("/-/storage", dependencies=needs(reads_everything))
def show_storage(request: Request) -> Response:
    """The dashboard: what everything takes, by what, and how that grew."""
    report = recent_report(request)
    priced = price_report(report, _storage_class(), 0)
    figures = draw_all(report)
    quotas = quotas_seen(request.app.state.vault, caller_of(request))
    values = {"report": report, "priced": priced, "figures": figures, "quotas": quotas}
    return render(request, "storage.html", **values)


def _storage_class() -> StorageClass:
    try:
        return load_prices(config.prices_path()).find()
    except InvalidInput as error:
        # It names a file of the server, and whoever looks at the page can do nothing about it.
        _log.error("%s", error.message)
        raise VaultError("the server's table of prices cannot be read") from error
