"""The commits, branches and tags of a repo."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....dedup.vault import Commit
from ..errors import HubError
from ..state import hub_of, open_revision
from .paging import asks_for, cut_page, read_number

_COMMITS_PAGE = 50
_PUSH_TITLE = "Push with weightvault"
_MOST_COMMITS = 1000


def get_refs(request: Request) -> Response:
    """GET /api/models/{repo}/refs."""
    repo = request.path_params["repo"]
    history = hub_of(request).history
    hub_of(request).vault.require_repo(repo)
    branches = history.branches(repo).items()
    pulls = [_ref(n, n, c) for n, c in branches if n.startswith("refs/")]
    body = {
        "branches": [_ref(n, f"refs/heads/{n}", c) for n, c in branches if n[:5] != "refs/"],
        "tags": [_ref(n, f"refs/tags/{n}", c) for n, c in history.tags(repo).items()],
        "converts": [],
    }
    asked = asks_for(request, "include_prs") or request.query_params.get("include_prs") == "1"
    return JSONResponse(body | ({"pullRequests": pulls} if asked else {}))


def get_commits(request: Request) -> Response:
    """GET /api/models/{repo}/commits/{rev}."""
    snapshot = open_revision(request)
    log = hub_of(request).history.log(snapshot.commit.repo, snapshot.commit.id)
    limit = read_number(request.query_params.get("limit"), _COMMITS_PAGE, most=_MOST_COMMITS)
    page, headers = cut_page(request, log, limit)
    headers["X-Total-Count"] = str(len(log))
    query = request.query_params
    asked = {*query.getlist("expand"), *query.getlist("expand[]")}
    if asked - {"formatted"}:
        raise HubError(400, "of commits, expand takes formatted alone")
    formatted = bool(asked)
    lines = [_commit_line(commit) | (_formatted(commit) if formatted else {}) for commit in page]
    return JSONResponse(lines, headers=headers)


def _ref(name: str, ref: str, commit: str) -> dict[str, str]:
    return {"name": name, "ref": ref, "targetCommit": commit}


def _commit_line(commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.id,
        "title": title_of(commit),
        "message": commit.message or "",
        "authors": [{"user": commit.author or "weightvault"}],
        "date": date_of(commit.created),
    }


def _formatted(commit: Commit) -> dict[str, Any]:
    said = {"title": escape(title_of(commit)), "message": escape(commit.message or "")}
    return {"formatted": said}


def title_of(commit: Commit) -> str:
    """Returns the first line of what a commit says of itself."""
    return commit.title or _PUSH_TITLE


def date_of(seconds: float) -> str:
    """Returns a time, in Unix seconds, as clients read it."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"
