"""Listings of the files of a revision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....dedup.errors import EntryNotFound
from ....dedup.vault import Commit, Snapshot
from ...requests.origins import takes_forms
from ...requests.uploads import received_bytes
from ..bodies import parse_form, parse_object
from ..errors import HubError, commit_header
from ..files import TreeFile, hub_files, list_tree
from ..state import Hub, hub_of, open_revision
from .history import date_of, title_of
from .paging import asks_for, cut_page, read_number

_PAGE = 1000
# With the last commit of each, which means looking through the history.
_EXPANDED_PAGE = 50
# Files of former commits, and these themselves, that a listing looks at: a second's work. Segments
# and tensors of a file are read with it, so that many of them count as more files, and a commit,
# of which a manifest is fetched and hashes are looked up, as some 2 ms of them.
_MOST_LOOKED_AT = 10_000
_PARTS_A_FILE = 10
_FILES_A_COMMIT = 20
_MOST_PATHS_BYTES = 1 << 22
_MOST_PATHS = 10_000


def get_tree(request: Request) -> Response:
    """GET /api/models/{repo}/tree/{rev}[/{path}]."""
    hub = hub_of(request)
    snapshot = open_revision(request)
    folder = request.path_params.get("path", "").strip("/")
    files = hub_files(hub.vault, snapshot.manifest)
    lines = list(list_tree(files.values(), folder, asks_for(request, "recursive")))
    if folder and not lines:
        raise EntryNotFound(f"{snapshot.commit.repo} has no folder {folder!r}")
    expand = asks_for(request, "expand")
    limit = read_number(request.query_params.get("limit"), _PAGE, most=_PAGE)
    page, headers = cut_page(request, lines, min(limit, _EXPANDED_PAGE) if expand else limit)
    if expand:
        page = _with_commits(hub, snapshot, page)
    return JSONResponse(page, headers=headers | commit_header(snapshot.commit.id))


@takes_forms
async def get_paths(request: Request) -> Response:
    """POST /api/models/{repo}/paths-info/{rev}: form-encoded or JSON."""
    return await run_in_threadpool(_answer_paths, request, *await asked_paths(request))


async def asked_paths(request: Request) -> tuple[list[str], bool]:
    """Returns the paths that a request asks for, and whether with the last commit of each."""
    body = await received_bytes(request, _MOST_PATHS_BYTES)
    if "json" in request.headers.get("content-type", ""):
        asked = parse_object(body)
        listed, expand = asked.get("paths"), bool(asked.get("expand"))
        paths: list[Any] = listed if isinstance(listed, list) else [listed]
    else:
        form = parse_form(body)
        paths, expand = form.get("paths", []), form.get("expand", ["false"])[-1].lower() == "true"
    if len(paths) > _MOST_PATHS or not all(isinstance(path, str) for path in paths):
        raise HubError(400, f"paths are a list of up to {_MOST_PATHS} texts")
    return paths, expand


def _answer_paths(request: Request, paths: list[str], expand: bool) -> Response:
    hub = hub_of(request)
    snapshot = open_revision(request)
    files = hub_files(hub.vault, snapshot.manifest)
    found = choose_paths(files.values(), paths)
    if expand:
        found = _with_commits(hub, snapshot, found)
    return JSONResponse(found, headers=commit_header(snapshot.commit.id))


def choose_paths(files: Iterable[TreeFile], paths: list[str]) -> list[dict[str, Any]]:
    """Returns the lines of a listing that are those of `paths`, in that order."""
    lines = {line["path"]: line for line in list_tree(files, "", recursive=True)}
    # Each once, however often it is asked for.
    asked = dict.fromkeys(path.strip("/") for path in paths)
    return [lines[path] for path in asked if path in lines]


def _with_commits(
    hub: Hub, snapshot: Snapshot, lines: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Adds to each line the commit that made it what it is, as far back as is looked at."""
    log = hub.history.log(snapshot.commit.repo, snapshot.commit.id, _MOST_LOOKED_AT + 1)
    waiting = {line["path"]: line for line in lines}
    found: dict[str, Commit] = {}
    newer, looked_at = log[0], 0
    for commit in log:
        if not waiting or looked_at > _MOST_LOOKED_AT:
            break
        manifest = hub.vault.load_manifest(commit.manifest)
        files = hub_files(hub.vault, manifest)
        then = {line["path"]: line["oid"] for line in list_tree(files.values(), "", True)}
        for path in [p for p, line in waiting.items() if then.get(p) != line["oid"]]:
            found[path] = newer
            del waiting[path]
        newer = commit
        parts = sum(len(entry.segments) + sum(1 for _ in entry.tensors) for entry in manifest.files)
        looked_at += _FILES_A_COMMIT + len(files) + parts // _PARTS_A_FILE
    found.update(dict.fromkeys(waiting, newer))
    return [line | {"lastCommit": _last_commit(found[line["path"]])} for line in lines]


def _last_commit(commit: Commit) -> dict[str, Any]:
    return {"id": commit.id, "title": title_of(commit), "date": date_of(commit.created)}
