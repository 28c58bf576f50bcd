"""Which files of git-lfs the branches of a repo have."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....store.cancel import check_cancelled
from ..files import hub_files
from ..state import hub_of
from .history import date_of
from .paging import cut_page, read_number

_PAGE = 1000
# Each is a manifest to read, with the parts of all its files; what only more of them have is on no
# list.
_MOST_BRANCHES = 100
_MOST_LOOKED_AT = 10_000


def list_lfs_files(request: Request) -> Response:
    """GET /api/models/{repo}/lfs-files: each content once, by where it was found first."""
    hub, repo = hub_of(request), request.path_params["repo"]
    hub.vault.require_repo(repo)
    found: dict[str, dict[str, Any]] = {}
    looked_at = 0
    branches = sorted(hub.history.branches(repo), key=lambda name: (name != "main", name))
    for branch in branches[:_MOST_BRANCHES]:
        check_cancelled()
        if looked_at > _MOST_LOOKED_AT:
            break
        snapshot = hub.vault.resolve(repo, branch)
        looked_at += sum(1 + len(entry.segments) for entry in snapshot.manifest.files)
        pushed = date_of(snapshot.commit.created)
        for file in hub_files(hub.vault, snapshot.manifest).values():
            if file.lfs and file.etag not in found:
                found[file.etag] = {
                    "fileOid": file.etag,
                    "oid": file.etag,
                    "filename": file.path,
                    "pushedAt": pushed,
                    "ref": branch if branch.startswith("refs/") else f"refs/heads/{branch}",
                    "size": file.entry.size,
                }
    limit = read_number(request.query_params.get("limit"), _PAGE, most=_PAGE)
    page, headers = cut_page(request, list(found.values()), limit)
    return JSONResponse(page, headers=headers)
