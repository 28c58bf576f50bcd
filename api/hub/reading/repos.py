"""Repos: what they are, which there are, and who may read them."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....dedup.local_vault import LocalVault
from ....dedup.model.cards import CARD, MAX_CARD_HEAD_BYTES, read_front_matter
from ....dedup.vault import Snapshot
from ....store.catalogue.files.mirrors import mirrored_from
from ....store.catalogue.refs import first_created
from ....store.catalogue.repo_list import Order, Wanted, list_rows, public_among, sum_sizes
from ....store.catalogue.reports.pages import RepoLine, list_lines
from ....store.catalogue.visibility import EVERYTHING, Scope
from ....store.repo_names import MODELS, RepoName
from ...requests.callers import caller_of
from ..errors import HubError
from ..files import HubFile, hub_files
from ..state import Hub, hub_of, open_revision
from .history import date_of
from .paging import asks_for, link_next, no_such_cursor, read_cursor, read_number

_PAGE = 1000
_REPOS_PAGE = 100
_BY_TIME = ("lastModified", "last_modified", "createdAt", "created_at")
# What says which repos are listed, and what only says how much is told of each.
_LISTED_BY = re.compile(
    "author|search|limit|sort|direction|cursor|gated|full|cardData|config|fetch_config|"
    r"expand(\[\])?|withCount"
)
# Nothing is counted here, so that by these all are alike.
_SORTED_BY = re.compile(
    "last_?[mM]odified|created_?[aA]t|downloads|likes|likes7d|trending_?[sS]core"
)


def get_repo(request: Request) -> Response:
    """GET /api/models/{repo}[/revision/{rev}]."""
    hub = hub_of(request)
    snapshot = open_revision(request)
    blobs = asks_for(request, "blobs") or asks_for(request, "files_metadata")
    return JSONResponse(_repo_info(hub, snapshot, blobs))


def list_repos(request: Request) -> Response:
    """GET /api/models and the like: by name, with `search`, `author`, `limit` and `sort`."""
    hub = hub_of(request)
    kind, query = request.path_params["kind"], request.query_params
    _check_query(query)
    if query.get("gated", "").lower() == "true":
        return JSONResponse([])
    words = tuple((query.get("search") or "").split())
    author = query.get("author") or None
    wanted = Wanted(caller_of(request).scope, kind, author, words, open_copies=True)
    order: Order = "updated" if query.get("sort") in _BY_TIME else "name"
    falling = order == "updated" and query.get("direction", "-1") == "-1"
    limit = read_number(query.get("limit"), _REPOS_PAGE, most=_PAGE)
    catalogue, cursor = hub.vault.catalogue, read_cursor(request)
    try:
        found = list_lines(catalogue, wanted, order, limit + 1, cursor, descending=falling)
    except ValueError as error:
        raise no_such_cursor() from error
    page = found[:limit]
    names = [line.name for line in page]
    copies, public = mirrored_from(catalogue, names), public_among(catalogue, names)
    lines = [_repo_line(line, line.name in public, copies.get(line.name)) for line in page]
    more = len(found) > limit
    return JSONResponse(lines, headers=link_next(request, page[-1].cursor) if more else {})


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


def _check_query(query: QueryParams) -> None:
    """Raises HubError for what a list cannot be asked for: a wrong answer would pass for one."""
    unknown = sorted(name for name in query if not _LISTED_BY.fullmatch(name))
    if unknown:
        named = ", ".join(name[:40] for name in unknown[:5])
        raise HubError(400, f"repos are not listed by {named} here; ask with search or author")
    if (sort := query.get("sort")) is not None and not _SORTED_BY.fullmatch(sort):
        raise HubError(400, f"repos are not sorted by {sort[:40]} here")


def check_access(_request: Request) -> Response:
    """GET /api/models/{repo}/auth-check: whoever comes here may read it."""
    return JSONResponse({})


def _repo_info(hub: Hub, snapshot: Snapshot, blobs: bool) -> dict[str, Any]:
    commit = snapshot.commit
    card = _read_card(hub.vault, snapshot)
    files = hub_files(hub.vault, snapshot.manifest) if blobs else {}
    siblings = [
        {"rfilename": entry.path, **(_blob(files[entry.path]) if blobs else {})}
        for entry in snapshot.manifest.files
    ]
    known = {n: card[n] for n in ("library_name", "pipeline_tag") if isinstance(card.get(n), str)}
    created = first_created(hub.vault.catalogue, commit.repo) or commit.created
    return {
        **_repo_facts(commit.repo, bool(hub.history.is_public(commit.repo)), created),
        "sha": commit.id,
        "lastModified": date_of(commit.created),
        "tags": _texts(card.get("tags")),
        "cardData": card,
        "siblings": siblings,
        "usedStorage": snapshot.manifest.size,
        **known,
    }


def _repo_facts(repo: str, public: bool, created: float) -> dict[str, Any]:
    named = RepoName.of(repo)
    return {
        "_id": quote(repo, safe=""),
        "id": named.id,
        **({"modelId": named.id} if named.kind == MODELS else {}),
        "author": named.namespace,
        "private": not public,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "createdAt": date_of(created),
    }


def _repo_line(repo: RepoLine, public: bool, upstream: str | None) -> dict[str, Any]:
    facts = _repo_facts(repo.name, public, repo.updated)
    facts |= {} if upstream is None else {"mirroredFrom": upstream}
    return facts | {"lastModified": date_of(repo.updated), "tags": []}


def _blob(file: HubFile) -> dict[str, Any]:
    known = {"size": file.entry.size, "blobId": file.blob.hex()}
    if not file.lfs:
        return known
    lfs = file.lfs_info()
    return known | {"lfs": {"sha256": lfs["oid"], **lfs}}


def _read_card(vault: LocalVault, snapshot: Snapshot) -> dict[str, Any]:
    """Returns the front matter of a repo's README.md: free text of unknown origin."""
    entry = snapshot.manifest.file(CARD)
    if entry is None:
        return {}
    stop = min(entry.size, MAX_CARD_HEAD_BYTES)
    pieces = vault.read_entry(entry, snapshot.manifest.chunk_bytes, 0, stop)
    return read_front_matter(b"".join(map(bytes, pieces)))


def _texts(value: Any) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []
