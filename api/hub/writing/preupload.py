"""How files are to be sent, before any is."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....dedup.errors import InvalidName
from ....dedup.model.paths import check_new_paths
from ...requests.uploads import received_bytes
from ..attributes import LfsRules, is_lfs, read_rules
from ..bodies import parse_object
from ..errors import HubError
from ..files import hub_files
from ..ignored import find_ignored, stored_rules
from ..state import branch_of
from .asked import writable

# 256 files with samples of 512 bytes take 200 KB.
_MOST_PREUPLOAD_BYTES = 1 << 23


async def preupload(request: Request) -> Response:
    """POST /api/models/{repo}/preupload/{rev}: how each file is to be sent, and what is there."""
    body = await received_bytes(request, _MOST_PREUPLOAD_BYTES)
    return await run_in_threadpool(_preupload, request, parse_object(body))


def _preupload(request: Request, asked: dict[str, Any]) -> Response:
    hub, repo = writable(request)
    revision = branch_of(request.path_params["rev"])
    snapshot = hub.vault.resolve(repo, revision)
    try:
        wanted = [(str(file["path"]), int(file["size"])) for file in asked["files"]]
    except (KeyError, TypeError, ValueError) as error:
        raise HubError(400, f"not a list of files: {error}") from error
    # Before anything is sent.
    try:
        check_new_paths(path for path, _ in wanted)
    except InvalidName as error:
        raise HubError(422, error.message if error.hint is None else str(error)) from error
    if any(size >= 1 << 63 for _, size in wanted):
        raise HubError(400, "no file is that long")
    asked_for = {path for path, _ in wanted}
    entries = tuple(e for e in snapshot.manifest.files if e.path in asked_for)
    part = type(snapshot.manifest)(entries, snapshot.manifest.chunk_bytes)
    rules = read_rules(hub.vault, snapshot.manifest)
    present = hub_files(hub.vault, part, rules)
    said = asked.get("gitIgnore")
    sent = said if isinstance(said, str) else stored_rules(hub.vault, snapshot.manifest)
    ignored = find_ignored(sent, asked_for)
    lines = [_mode(path, size, present, rules) for path, size in wanted]
    return JSONResponse({"files": [x | {"shouldIgnore": x["path"] in ignored} for x in lines]})


def _mode(path: str, size: int, present: dict[str, Any], rules: LfsRules) -> dict[str, Any]:
    mode = "lfs" if is_lfs(path, size, rules) else "regular"
    answer: dict[str, Any] = {"path": path, "uploadMode": mode}
    file = present.get(path)
    # What is there in the other mode has a hash of the other kind: nothing to compare with.
    if file is not None and file.lfs == (mode == "lfs"):
        answer["oid"] = file.etag
    return answer
