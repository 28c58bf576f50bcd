"""Repos: what they are, which are one's own, and who may read them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....store.catalogue.repo_list import Wanted, list_rows, public_among, sum_sizes
from ....store.catalogue.visibility import EVERYTHING, Scope
from ....store.repo_names import RepoName
from ...requests.callers import caller_of
from ..state import hub_of, open_revision
from .history import date_of
from .info import asked_properties, choose, repo_info, uncounted
from .paging import asks_for, link_next, read_cursor

_REPOS_PAGE = 100


def get_repo(request: Request) -> Response:
    """GET /api/models/{repo}[/revision/{rev}]."""
    asked = asked_properties(request, request.path_params["kind"])
    hub, snapshot = hub_of(request), open_revision(request)
    blobs = asks_for(request, "blobs") or asks_for(request, "files_metadata")
    public = bool(hub.history.is_public(snapshot.commit.repo))
    told = repo_info(hub.vault, snapshot, public, blobs=blobs)
    return JSONResponse(choose(told | uncounted(asked), asked))


def list_own(request: Request) -> Response:
    """GET /api/settings/repositories: the repos that the caller may change, or of a namespace."""
    hub, caller = hub_of(request), caller_of(request)
    namespace = request.path_params.get("namespace")
    catalogue = hub.vault.catalogue
    owned = EVERYTHING if caller.writes_all else Scope(caller.owned)
    wanted = Wanted(owned, namespace=namespace)
    total = sum_sizes(catalogue, wanted) or 1
    found = list_rows(catalogue, wanted, _REPOS_PAGE + 1, read_cursor(request))
    page, more = found[:_REPOS_PAGE], len(found) > _REPOS_PAGE
    headers = link_next(request, page[-1].name) if more else {}
    public = public_among(catalogue, [repo.name for repo in page])
    lines = [
        {
            "id": RepoName.of(repo.name).id,
            "type": RepoName.of(repo.name).kind.removesuffix("s"),
            "updatedAt": date_of(repo.updated),
            "visibility": "public" if repo.name in public else "private",
            "storage": repo.bytes,
            "storagePercent": round(100 * repo.bytes / total, 2),
        }
        for repo in page
    ]
    return JSONResponse(lines, headers=headers)


def check_access(_request: Request) -> Response:
    """GET /api/models/{repo}/auth-check: whoever comes here may read it."""
    return JSONResponse({})
