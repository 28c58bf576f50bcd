"""Files of a revision: their bytes, or what git has in their place."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ....dedup.errors import EntryNotFound
from ....dedup.model.names import is_commit_id
from ....store.repo_names import RepoName
from ...sending.headers import file_headers
from ...v1.content import ranged
from ..errors import COMMIT_HEADER, commit_header
from ..files import HubFile, hub_file
from ..state import hub_of, open_revision


def get_file(request: Request) -> Response:
    """GET and HEAD /{page}/resolve/{rev}/{path}: a file's bytes, decoded, or a range of them."""
    return _send_file(request, raw=False)


def get_raw(request: Request) -> Response:
    """GET and HEAD /{page}/raw/{rev}/{path}: as `get_file`, but what git has: the pointer to a file
    of git-lfs."""
    return _send_file(request, raw=True)


def _send_file(request: Request, *, raw: bool) -> Response:
    hub = hub_of(request)
    snapshot = open_revision(request)
    path = request.path_params["path"]
    entry = snapshot.manifest.file(path)
    if entry is None:
        where = f"{RepoName.of(snapshot.commit.repo).id} at {request.path_params['rev']}"
        raise EntryNotFound(f"Entry not found: {where} has no file {path!r}")
    file = hub_file(hub.vault, snapshot.manifest, entry)
    if raw and file.lfs:
        return send_pointer(request, file.blob.hex(), file.pointer(), snapshot.commit.id)
    headers = _file_headers(request, file) | commit_header(snapshot.commit.id)
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(entry.size)})

    def read(first: int, stop: int) -> Any:
        return hub.read(entry, snapshot.manifest.chunk_bytes, first, stop)

    return ranged(request.headers, entry.size, headers, read)


def send_pointer(request: Request, blob: str, pointer: bytes, commit: str) -> Response:
    """Answers with the pointer to a file of git-lfs, whose git blob is `blob` in hexadecimal."""
    name = request.path_params["path"].rpartition("/")[2]
    pinned = is_commit_id(request.path_params["rev"])
    headers = file_headers(request.headers, blob, name, pinned=pinned)
    headers |= {COMMIT_HEADER: commit, "Content-Type": "application/octet-stream"}
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(len(pointer))})
    return ranged(request.headers, len(pointer), headers, lambda a, b: iter((pointer[a:b],)))


def _file_headers(request: Request, file: HubFile) -> dict[str, str]:
    name, pinned = file.entry.path.rpartition("/")[2], is_commit_id(request.path_params["rev"])
    headers = file_headers(request.headers, file.etag, name, pinned=pinned)
    headers["Content-Type"] = "application/octet-stream"
    linked = {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(file.entry.size)}
    return headers | (linked if file.lfs else {})
