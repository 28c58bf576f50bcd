"""What clients change: repos, branches, tags, and commits."""

from __future__ import annotations

import base64
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...dedup.errors import Conflict, InvalidInput
from ...dedup.maintenance.rename_repo import rename_repo
from ...dedup.model.names import check_path, check_repo
from ...dedup.model.paths import check_new_paths
from ...dedup.model.strict_json import parse_json_object
from ...dedup.transfer.refs import (
    DEFAULT_BRANCH,
    AddFile,
    Change,
    DeleteFile,
    DeleteFolder,
    Message,
)
from ...dedup.transfer.uploads import StagedFile
from ...store.cancel import check_cancelled
from ...store.repo_names import MODELS, RepoName
from ..errors import TooLarge
from ..requests.access import repos_seen, require_create, require_write
from ..requests.audit import note_repo
from ..requests.callers import caller_of
from ..requests.slots import run_checked
from ..requests.uploads import received_bytes, received_file
from .bodies import parse_object
from .errors import HubError
from .files import hub_files, is_lfs
from .state import Hub, branch_of, hub_of, repo_url

_MOST_JSON_BYTES = 1 << 20
# 256 files with samples of 512 bytes take 200 KB.
_MOST_PREUPLOAD_BYTES = 1 << 23
# Files that travel in commits are shorter than files.LFS_BYTES, of which JSON and Base64 make up to
# six times as much; one line is read into memory, and takes five times its length there.
_MOST_COMMIT_BYTES = 4 << 30
_MOST_LINE_BYTES = 8 << 20
_MOST_LINE_VALUES = 100
_MOST_OPERATIONS = 100_000
# Each takes half a millisecond, however short it is; clients send up to 1,000 at once.
_MOST_ADDED = 4_000
_MOST_TITLE, _MOST_TEXT = 500, 65_536

_KINDS = {"model": MODELS, "dataset": "datasets", "space": "spaces"}
_COMMIT_ID = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


async def create_repo(request: Request) -> Response:
    """POST /api/repos/create."""
    asked = await _json_body(request)
    return await run_in_threadpool(_create_repo, request, asked)


def _create_repo(request: Request, asked: dict[str, Any]) -> Response:
    repo = _asked_repo(request, asked)
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
    asked = await _json_body(request)

    def delete() -> Response:
        repo = _asked_repo(request, asked)
        require_write(request, repo)
        hub_of(request).vault.delete_repo(repo)
        return JSONResponse({})

    return await run_in_threadpool(delete)


async def move_repo(request: Request) -> Response:
    """POST /api/repos/move."""
    asked = await _json_body(request)

    def move() -> Response:
        named = (asked | {"name": asked.get(end)} for end in ("fromRepo", "toRepo"))
        old, new = (_asked_repo(request, each) for each in named)
        require_write(request, old)
        require_create(request, new)
        rename_repo(hub_of(request).vault, old, new)
        return JSONResponse({"url": repo_url(request, new)})

    return await run_in_threadpool(move)


async def change_settings(request: Request) -> Response:
    """PUT /api/models/{repo}/settings: who may see it."""
    asked = await _json_body(request)
    if asked.get("gated"):
        raise HubError(400, "there are no gated repos here: a repo is private or public")

    def change() -> Response:
        hub, repo = _writable(request)
        private = asked.get("private")
        if "visibility" in asked:
            private = asked["visibility"] != "public"
        if isinstance(private, bool):
            hub.history.set_public(repo, not private)
        return JSONResponse({"private": not hub.history.is_public(repo)})

    return await run_in_threadpool(change)


def squash(request: Request) -> Response:
    """POST /api/models/{repo}/super-squash/{rev}."""
    _writable(request)
    raise HubError(501, "commits are kept here: make a new repo of the files that shall stay")


async def create_branch(request: Request) -> Response:
    """POST /api/models/{repo}/branch/{name*}."""
    asked = await _json_body(request, empty=True)

    def create() -> Response:
        hub, repo = _writable(request)
        start = branch_of(str(asked.get("startingPoint") or DEFAULT_BRANCH))
        name, anew = branch_of(request.path_params["name"]), asked.get("overwrite") is True
        hub.history.create_branch(repo, name, start, overwrite=anew)
        return JSONResponse({})

    return await run_in_threadpool(create)


def delete_branch(request: Request) -> Response:
    """DELETE /api/models/{repo}/branch/{name*}."""
    hub, repo = _writable(request)
    hub.history.delete_branch(repo, branch_of(request.path_params["name"]))
    return JSONResponse({})


async def create_tag(request: Request) -> Response:
    """POST /api/models/{repo}/tag/{rev}."""
    asked = await _json_body(request)

    def create() -> Response:
        hub, repo = _writable(request)
        revision = branch_of(request.path_params["rev"])
        message = asked.get("message")
        text = _message_text(message, _MOST_TEXT) if isinstance(message, str) else None
        hub.history.create_tag(repo, str(asked.get("tag")), revision, text)
        return JSONResponse({})

    return await run_in_threadpool(create)


def delete_tag(request: Request) -> Response:
    """DELETE /api/models/{repo}/tag/{tag}."""
    hub, repo = _writable(request)
    hub.history.delete_tag(repo, request.path_params["rev"])
    return JSONResponse({})


async def preupload(request: Request) -> Response:
    """POST /api/models/{repo}/preupload/{rev}: how each file is to be sent, and what is there."""
    body = await received_bytes(request, _MOST_PREUPLOAD_BYTES)
    return await run_in_threadpool(_preupload, request, parse_object(body))


def _preupload(request: Request, asked: dict[str, Any]) -> Response:
    hub, repo = _writable(request)
    revision = branch_of(request.path_params["rev"])
    snapshot = hub.vault.resolve(repo, revision)
    try:
        wanted = [(str(file["path"]), int(file["size"])) for file in asked["files"]]
    except (KeyError, TypeError, ValueError) as error:
        raise HubError(400, f"not a list of files: {error}") from error
    # Before anything is sent.
    check_new_paths(path for path, _ in wanted)
    if any(size >= 1 << 63 for _, size in wanted):
        raise HubError(400, "no file is that long")
    asked_for = {path for path, _ in wanted}
    entries = tuple(e for e in snapshot.manifest.files if e.path in asked_for)
    part = type(snapshot.manifest)(entries, snapshot.manifest.chunk_bytes)
    present = hub_files(hub.vault, part)
    return JSONResponse({"files": [_mode(path, size, present) for path, size in wanted]})


def _mode(path: str, size: int, present: dict[str, Any]) -> dict[str, Any]:
    mode = "lfs" if is_lfs(path, size) else "regular"
    answer: dict[str, Any] = {"path": path, "uploadMode": mode, "shouldIgnore": False}
    file = present.get(path)
    # What is there in the other mode has a hash of the other kind: nothing to compare with.
    if file is not None and file.lfs == (mode == "lfs"):
        answer["oid"] = file.etag
    return answer


@dataclass(frozen=True, slots=True)
class _Operation:
    """What a line of a commit does with a path; `oid` and `size` are those of a file of git-lfs."""

    kind: str
    path: str
    oid: str = ""
    size: int | None = None


@dataclass(slots=True)
class _Commit:
    """A commit request as it was sent; files that travelled in it lie in files of ours."""

    header: dict[str, Any] = field(default_factory=dict)
    operations: list[_Operation] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    added: int = 0


async def commit(request: Request) -> Response:
    """POST /api/models/{repo}/commit/{rev}: a JSON object a line."""
    hub, _ = await run_in_threadpool(_writable, request)
    async with received_file(request, hub.vault.scratch, _MOST_COMMIT_BYTES) as path:
        return await run_checked(request, _commit, request, path)


def _commit(request: Request, body: Path) -> Response:
    hub, repo = _writable(request)
    branch = branch_of(request.path_params["rev"])
    with tempfile.TemporaryDirectory(prefix="commit-", dir=hub.vault.scratch) as folder:
        asked = _read_commit(body, Path(folder))
        changes = list(_changes(request, hub, repo, asked))
    parent = asked.header.get("parentCommit")
    if parent is not None and not _COMMIT_ID.fullmatch(str(parent)):
        raise HubError(400, "parentCommit is no commit id")
    number = None
    if request.query_params.get("create_pr") in ("1", "true", "True"):
        if _COMMIT_ID.fullmatch(branch):
            raise HubError(400, "a pull request is for a branch, not for a commit")
        number = hub.history.open_pull_request(repo, str(parent or branch))
        branch = f"refs/pr/{number}"
    title = _message_text(asked.header.get("summary"), _MOST_TITLE)
    text = _message_text(asked.header.get("description"), _MOST_TEXT) or None
    message = Message(title, text, caller_of(request).name)
    made = hub.history.commit(repo, branch, changes, message, parent=parent)
    url = repo_url(request, repo)
    answer = {
        "success": True,
        "commitOid": made.id,
        "commitUrl": f"{url}/commit/{made.id}",
        "hookOutput": "",
    }
    if number is not None:
        answer["pullRequestUrl"] = f"{url}/discussions/{number}"
    return JSONResponse(answer)


def _read_commit(body: Path, folder: Path) -> _Commit:
    """Reads the lines of a commit; the last file of a path counts."""
    found = _Commit()
    with body.open("rb") as lines:
        for number, line in enumerate(_lines(lines)):
            check_cancelled()
            try:
                _read_line(found, line, folder / str(number))
            except TooLarge:
                raise
            except (ValueError, KeyError, TypeError, InvalidInput) as error:
                where = f"line {number + 1} of the commit"
                raise HubError(400, f"{where} is malformed: {error}") from error
    return found


def _read_line(found: _Commit, line: bytes, target: Path) -> None:
    """Adds what a line says to a commit; a file's bytes go to `target`."""
    item = parse_json_object(line, most_values=_MOST_LINE_VALUES)
    key, value = str(item["key"]), item["value"]
    if not isinstance(value, dict):
        raise TypeError("its value is no object")
    if key == "header":
        found.header = value
        return
    path = check_path(str(value["path"]).rstrip("/"))
    if key == "file":
        target.write_bytes(_decode(value))
        found.files[path] = target
    size = value.get("size")
    if size is not None and type(size) is not int:
        raise TypeError("its size is no number of bytes")
    found.operations.append(_Operation(key, path, str(value.get("oid", ""))[:64], size))
    if key in ("file", "lfsFile"):
        found.added += 1
    if found.added > _MOST_ADDED or len(found.operations) > _MOST_OPERATIONS:
        raise TooLarge(
            f"a commit adds at most {_MOST_ADDED} files and changes at most {_MOST_OPERATIONS}",
            "make several commits, or push with weightvault, which takes any number of files",
        )


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_MOST_LINE_BYTES + 1):
        if len(line) > _MOST_LINE_BYTES:
            raise HubError(413, "a file is too long to travel in a commit: upload it with git-lfs")
        if line.strip():
            yield line


def _decode(value: dict[str, Any]) -> bytes:
    content = value["content"]
    if not isinstance(content, str):
        raise TypeError("its content is no text")
    if value.get("encoding", "utf-8") == "base64":
        return base64.b64decode(content, validate=True)
    return content.encode()


def _changes(request: Request, hub: Hub, repo: str, asked: _Commit) -> Iterator[Change]:
    # Together, in order of their paths as a push has them: an ONNX model tells what is in others.
    named = dict(sorted(asked.files.items()))
    staged = dict(zip(named, hub.incoming.stage(named, repo), strict=True)) if named else {}
    # A file at many paths is looked for once.
    find = cache(partial(_find_upload, request, hub, repo))
    for asked_for in asked.operations:
        kind, path = asked_for.kind, asked_for.path
        if kind == "file":
            yield AddFile(path, staged[path])
        elif kind == "lfsFile":
            yield AddFile(path, _check_upload(find, asked_for))
        elif kind == "deletedFile":
            yield DeleteFile(path)
        elif kind == "deletedFolder":
            yield DeleteFolder(path)
        else:
            raise HubError(400, f"a commit has no {kind[:40]!r}")


def _find_upload(request: Request, hub: Hub, repo: str, sha256: bytes) -> StagedFile | None:
    """Returns the file that was uploaded, or is copied from where the caller may read it."""
    return hub.incoming.get(sha256, repo) or hub.incoming.find(sha256, repos_seen(request))


def _check_upload(find: Callable[[bytes], StagedFile | None], asked: _Operation) -> StagedFile:
    """Returns the file that `find` has of an operation's SHA-256. Raises HubError."""
    check_cancelled()
    path = asked.path
    if not _SHA256.fullmatch(asked.oid):
        raise HubError(400, f"{path}: no SHA-256")
    found = find(bytes.fromhex(asked.oid))
    if found is None:
        raise HubError(400, f"{path}: the content {asked.oid} was never uploaded: upload again")
    if asked.size not in (None, found.size):
        raise HubError(400, f"{path} has {found.size} bytes, not {asked.size}")
    return found


# What requests ask


def _writable(request: Request) -> tuple[Hub, str]:
    """Returns the hub and the repo of a request, which is there."""
    repo = request.path_params["repo"]
    hub = hub_of(request)
    hub.vault.require_repo(repo)
    return hub, repo


def _asked_repo(request: Request, asked: dict[str, Any]) -> str:
    name, namespace = str(asked.get("name") or ""), asked.get("organization")
    if "/" in name:
        namespace, _, name = name.partition("/")
    kind = _KINDS.get(str(asked.get("type") or "model"))
    if kind is None:
        raise HubError(400, f"there are no repos of type {str(asked.get('type'))[:40]!r}")
    repo = check_repo(str(RepoName(kind, str(namespace or caller_of(request).name), name)))
    note_repo(request, repo)
    return repo


def _message_text(value: Any, most: int) -> str:
    """What a commit or tag says, as far as it is kept; no database keeps NUL in a text."""
    return str(value or "")[:most].replace("\0", "")


async def _json_body(request: Request, *, empty: bool = False) -> dict[str, Any]:
    body = await received_bytes(request, _MOST_JSON_BYTES)
    return {} if empty and not body.strip() else parse_object(body)
