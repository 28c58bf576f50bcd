"""Makes, moves and deletes repos, and says who may see them."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....dedup.errors import Conflict
from ....dedup.maintenance.rename_repo import rename_repo
from ....dedup.transfer.refs import Message
from ....store.repo_names import RepoName
from ...requests.access import require_create, require_write
from ..errors import HubError
from ..state import hub_of, repo_url
from .asked import asked_repo, json_body, writable


async def create_repo(request: Request) -> Response:
    """POST /api/repos/create."""
    asked = await json_body(request)
    return await run_in_threadpool(_create_repo, request, asked)


def _create_repo(request: Request, asked: dict[str, Any]) -> Response:
    repo = asked_repo(request, asked)
    caller = require_create(request, repo)
    hub = hub_of(request)
    url = repo_url(request, repo)
    known_as = RepoName.of(repo).id
    answer = {"url": url, "name": known_as, "id": known_as}
    public = asked.get("visibility") == "public" or asked.get("private") is False
    try:
        hub.history.create_repo(repo, Message("initial commit", author=caller.name), public=public)
    except Conflict as error:
        raise HubError(409, "You already created this repo", body=answer) from error
    return JSONResponse(answer)


async def delete_repo(request: Request) -> Response:
    """DELETE /api/repos/delete."""
    asked = await json_body(request)

    def delete() -> Response:
        repo = asked_repo(request, asked)
        require_write(request, repo)
        hub_of(request).vault.delete_repo(repo)
        return JSONResponse({})

    return await run_in_threadpool(delete)


async def move_repo(request: Request) -> Response:
    """POST /api/repos/move."""
    asked = await json_body(request)

    def move() -> Response:
        named = (asked | {"name": asked.get(end)} for end in ("fromRepo", "toRepo"))
        old, new = (asked_repo(request, each) for each in named)
        require_write(request, old)
        require_create(request, new)
        rename_repo(hub_of(request).vault, old, new)
        return JSONResponse({"url": repo_url(request, new)})

    return await run_in_threadpool(move)


async def change_settings(request: Request) -> Response:
    """PUT /api/models/{repo}/settings: who may see it."""
    asked = await json_body(request)
    if asked.get("gated"):
        raise HubError(400, "there are no gated repos here: a repo is private or public")

    def change() -> Response:
        hub, repo = writable(request)
        private = asked.get("private")
        if "visibility" in asked:
            private = asked["visibility"] != "public"
        if isinstance(private, bool):
            hub.history.set_public(repo, not private)
        return JSONResponse({"private": not hub.history.is_public(repo)})

    return await run_in_threadpool(change)
