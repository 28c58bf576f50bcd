"""Makes, moves and deletes repos, and says who may see them."""

from __future__ import annotations

import re
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....dedup.errors import Conflict
from ....dedup.formats.cutting.held import Holder
from ....dedup.maintenance.rename_repo import NameTaken, rename_repo
from ....dedup.model.cards import CARD
from ....dedup.model.paths import check_new_path
from ....dedup.reading.scratch import scratch_folder
from ....dedup.transfer.folders.small_files import LEAST_FILES
from ....dedup.transfer.refs import AddFile, Message
from ....store.repo_names import RepoName
from ...requests.access import require_create, require_write
from ..attributes import ATTRIBUTES, FIRST_ATTRIBUTES
from ..errors import HubError
from ..state import Hub, hub_of, repo_url
from .asked import asked_repo, decode_content, json_body, writable

_MOST_FIRST_FILES = 100
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")


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
        if hub.history.is_public(repo) is not None:
            raise Conflict(f"there is a repo {repo} already")
        message = Message("initial commit", author=caller.name)
        first = _store_files(hub, repo, _first_files(asked))
        hub.history.create_repo(repo, message, first, public=public)
    except Conflict as error:
        raise HubError(409, "You already created this repo", body=answer) from error
    return JSONResponse(answer)


def _first_files(asked: dict[str, Any]) -> dict[str, bytes]:
    """Returns what a new repo begins with by path: the .gitattributes that say which files are
    git-lfs's, a card with the licence, if one is named, and files that the request has."""
    files = {ATTRIBUTES: FIRST_ATTRIBUTES}
    if isinstance(licence := asked.get("license"), str):
        if not _LICENCE.fullmatch(licence):
            raise HubError(400, "a license is a short name such as mit or apache-2.0")
        files[CARD] = f"---\nlicense: {licence}\n---\n".encode()
    listed = asked.get("files") or []
    if not isinstance(listed, list) or len(listed) > _MOST_FIRST_FILES:
        raise HubError(400, f"a repo begins with a list of at most {_MOST_FIRST_FILES} files")
    for each in listed:
        try:
            files[check_new_path(each["path"])] = decode_content(each)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise HubError(400, f"a file of the new repo is malformed: {error}") from error
    return files


def _store_files(hub: Hub, repo: str, files: dict[str, bytes]) -> list[AddFile]:
    with scratch_folder("create-", hub.vault.scratch) as folder:
        holder = Holder(folder)
        places = {path: holder.keep(files[path]) for path in sorted(files)}
        staged = hub.incoming.stage(places, repo, bundled_from=LEAST_FILES)
    return [AddFile(path, file) for path, file in zip(places, staged, strict=True)]


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
        try:
            rename_repo(hub_of(request).vault, old, new)
        except NameTaken as error:
            kind = asked.get("type") or "model"
            said = f"A {kind} repository called {RepoName.of(new).id} already exists"
            raise HubError(409, said) from error
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
