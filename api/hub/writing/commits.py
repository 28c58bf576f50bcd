"""Commits of clients: an object of JSON a line, files that travel in it among them."""

from __future__ import annotations

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

from ....dedup.errors import InvalidInput, RevisionNotFound
from ....dedup.formats.cutting.held import File, Holder
from ....dedup.model.names import check_path
from ....dedup.model.strict_json import parse_json_object
from ....dedup.transfer.folders.small_files import LEAST_FILES
from ....dedup.transfer.refs import AddFile, Change, DeleteFile, DeleteFolder, Message
from ....dedup.transfer.uploads import StagedFile
from ....store.cancel import check_cancelled
from ...errors import TooLarge
from ...requests.access import repos_seen
from ...requests.callers import caller_of
from ...requests.slots import run_checked
from ...requests.uploads import received_file
from ..errors import HubError
from ..state import Hub, repo_url
from .asked import MOST_TEXT, MOST_TITLE, decode_content, message_text, writable

# Files that travel in commits are shorter than files.LFS_BYTES, of which JSON and Base64 make up to
# six times as much; one line is read into memory, and takes five times its length there.
_MOST_COMMIT_BYTES = 4 << 30
_MOST_LINE_BYTES = 8 << 20
_MOST_LINE_VALUES = 100
_MOST_OPERATIONS = 100_000
# Each takes half a millisecond, however short it is; clients send up to 1,000 at once.
_MOST_ADDED = 4_000

_COMMIT_ID = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class _Operation:
    """What a line of a commit does with a path; `oid` and `size` are those of a file of git-lfs."""

    kind: str
    path: str
    oid: str = ""
    size: int | None = None


@dataclass(slots=True)
class _Commit:
    """A commit request as it was sent, with the files that travelled in it."""

    header: dict[str, Any] = field(default_factory=dict)
    operations: list[_Operation] = field(default_factory=list)
    files: dict[str, File] = field(default_factory=dict)
    added: int = 0


async def commit(request: Request) -> Response:
    """POST /api/models/{repo}/commit/{rev}: a JSON object a line."""
    hub, _ = await run_in_threadpool(writable, request)
    async with received_file(request, hub.vault.scratch, _MOST_COMMIT_BYTES) as path:
        return await run_checked(request, _commit, request, path)


def _commit(request: Request, body: Path) -> Response:
    hub, repo = writable(request)
    branch = hub.name_revision(repo, request.path_params["rev"])
    with tempfile.TemporaryDirectory(prefix="commit-", dir=hub.vault.scratch) as folder:
        asked = _read_commit(body, Path(folder))
        changes = list(_changes(request, hub, repo, asked))
    parent = asked.header.get("parentCommit")
    if parent is not None and not _COMMIT_ID.fullmatch(str(parent)):
        raise HubError(400, "parentCommit is no commit id")
    number = None
    if request.query_params.get("create_pr") in ("1", "true", "True"):
        if branch not in hub.history.branches(repo):
            raise RevisionNotFound("Invalid rev id: a pull request is for a branch, not a commit")
        number = hub.history.open_pull_request(repo, str(parent or branch))
        branch = f"refs/pr/{number}"
    title = message_text(asked.header.get("summary"), MOST_TITLE)
    text = message_text(asked.header.get("description"), MOST_TEXT) or None
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
    found, holder = _Commit(), Holder(folder)
    with body.open("rb") as lines:
        for number, line in enumerate(_lines(lines)):
            check_cancelled()
            try:
                _read_line(found, line, holder)
            except TooLarge:
                raise
            except (ValueError, KeyError, TypeError, InvalidInput) as error:
                where = f"line {number + 1} of the commit"
                raise HubError(400, f"{where} is malformed: {error}") from error
    return found


def _read_line(found: _Commit, line: bytes, holder: Holder) -> None:
    """Adds what a line says to a commit; a file's bytes go to `holder`."""
    item = parse_json_object(line, most_values=_MOST_LINE_VALUES)
    key, value = str(item["key"]), item["value"]
    if not isinstance(value, dict):
        raise TypeError("its value is no object")
    if key == "header":
        found.header = value
        return
    path = check_path(str(value["path"]).rstrip("/"))
    if key == "file":
        found.files[path] = holder.keep(decode_content(value))
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


def _changes(request: Request, hub: Hub, repo: str, asked: _Commit) -> Iterator[Change]:
    # Together, in order of their paths as a push has them: an ONNX model tells what is in others.
    named = dict(sorted(asked.files.items()))
    stored = hub.incoming.stage(named, repo, bundled_from=LEAST_FILES) if named else ()
    staged = dict(zip(named, stored, strict=True))
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
