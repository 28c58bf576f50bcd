"""The front page: the list of repos."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from ...dedup.errors import InvalidInput
from ...store.catalogue.repo_list import Order
from ...store.catalogue.reports.pages import MOST_COUNTED, count_repos, list_page
from ..requests.access import needs, sees_own
from ..requests.callers import caller_of
from ..v1.reports import quotas_seen
from ..v1.routes import VaultParam
from .paging import PageRoute
from .rendering import render

PAGE = 30
_MAX_SEARCH = 200
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
        counted=total < MOST_COUNTED,
        newer=lines[0].cursor if lines and (after or (before and more)) else None,
        older=lines[-1].cursor if lines and (more or before) else None,
    )
