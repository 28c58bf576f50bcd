"""Pull requests as far as there are any here: branches for others to look at. Nothing is discussed,
and nobody merges."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....store.repo_names import RepoName
from ..errors import HubError
from ..reading.history import date_of, title_of
from ..state import Hub, hub_of, repo_url
from .asked import json_body, writable

_MOST_DIGITS = 9


async def open_pull_request(request: Request) -> Response:
    """POST /api/models/{repo}/discussions, of a pull request: makes its branch of the default one,
    for commits to come."""
    asked = await json_body(request)
    if asked.get("pullRequest") is not True:
        raise HubError(400, "there are no discussions here, only branches of pull requests")

    def make() -> Response:
        hub, repo = writable(request)
        number = hub.history.open_pull_request(repo, hub.name_revision(repo, None))
        url = f"{repo_url(request, repo)}/discussions/{number}"
        return JSONResponse({"num": number, "url": url, "pullRequest": True})

    return await run_in_threadpool(make)


def get_pull_request(request: Request) -> Response:
    """GET /api/models/{repo}/discussions/{number}, of a pull request."""
    hub, number = hub_of(request), request.path_params["number"]
    repo, branch = request.path_params["repo"], f"refs/pr/{number}"
    known = number.isascii() and number.isdecimal() and len(number) <= _MOST_DIGITS
    if not known or branch not in hub.history.branches(repo):
        hub.vault.require_repo(repo)
        raise HubError(404, f"there is no pull request {number[:40]}")
    return JSONResponse(_describe(hub, repo, int(number)))


def _describe(hub: Hub, repo: str, number: int) -> dict[str, Any]:
    head = hub.vault.resolve(repo, f"refs/pr/{number}").commit
    named = RepoName.of(repo)
    return {
        "num": number,
        "title": title_of(head),
        "author": {"name": head.author or "weightvault"},
        "createdAt": date_of(head.created),
        "status": "open",
        "isPullRequest": True,
        "repo": {"name": named.id, "type": named.kind.removesuffix("s")},
        "changes": {"base": f"refs/heads/{hub.name_revision(repo, None)}", "mergeCommitId": None},
        "filesWithConflicts": [],
        "events": [],
    }
