"""What clients read: repos, revisions, listings, history, files."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...dedup.errors import EntryNotFound
from ...dedup.local_vault import LocalVault
from ...dedup.model.cards import CARD, MAX_CARD_HEAD_BYTES, read_front_matter
from ...dedup.model.names import is_commit_id
from ...dedup.transfer.refs import History
from ...dedup.vault import Commit, RepoSummary, Snapshot
from ...store.catalogue.files.mirrors import mirrored_from
from ...store.repo_names import MODELS, RepoName
from ..requests.access import repos_seen
from ..requests.origins import takes_forms
from ..requests.uploads import received_bytes
from ..sending.headers import file_headers
from ..v1.content import ranged
from .bodies import parse_form, parse_object
from .errors import COMMIT_HEADER, HubError
from .files import HubFile, TreeFile, hub_file, hub_files, list_tree
from .state import Hub, base_url, hub_of, open_revision

_T = TypeVar("_T")

_PAGE = 1000
# With the last commit of each, which means looking through the history.
_EXPANDED_PAGE = 50
# Files of former commits, and these themselves, that a listing looks at: a second's work. Segments
# and tensors of a file are read with it, so that many of them count as more files.
_MOST_LOOKED_AT = 10_000
_PARTS_A_FILE = 10
_COMMITS_PAGE = 50
_REPOS_PAGE = 100
_MOST_PATHS_BYTES = 1 << 22
_MOST_PATHS = 10_000
_PUSH_TITLE = "Push with weightvault"
# What says which repos are listed, and what only says how much is told of each.
_LISTED_BY = re.compile(
    "author|search|limit|sort|direction|cursor|gated|full|cardData|config|fetch_config|"
    r"expand(\[\])?|withCount"
)
# Nothing is counted here, so that by these all are alike.
_SORTED_BY = re.compile(
    "last_?[mM]odified|created_?[aA]t|downloads|likes|likes7d|trending_?[sS]core"
)


def get_repo(request: Request) -> Response:
    """GET /api/models/{repo}[/revision/{rev}]."""
    hub = hub_of(request)
    snapshot = open_revision(request)
    blobs = asks_for(request, "blobs") or asks_for(request, "files_metadata")
    return JSONResponse(_repo_info(hub, snapshot, blobs))


def list_repos(request: Request) -> Response:
    """GET /api/models and the like: by name, with `search`, `author`, `limit` and `sort`."""
    hub = hub_of(request)
    kind, query = request.path_params["kind"], request.query_params
    _check_query(query)
    if query.get("gated", "").lower() == "true":
        return JSONResponse([])
    sees = repos_seen(request)
    found = [r for r in hub.vault.list_repos() if RepoName.of(r.name).kind == kind and sees(r.name)]
    if author := query.get("author"):
        found = [r for r in found if RepoName.of(r.name).namespace == author]
    for word in (query.get("search") or "").lower().split():
        found = [r for r in found if word in RepoName.of(r.name).id.lower()]
    if query.get("sort") in ("lastModified", "last_modified", "createdAt", "created_at"):
        found.sort(key=lambda r: r.updated, reverse=query.get("direction", "-1") == "-1")
    limit = read_number(query.get("limit"), _REPOS_PAGE, most=_PAGE)
    page, headers = cut_page(request, found, limit)
    copies = mirrored_from(hub.vault.catalogue)
    lines = [_repo_line(hub.history, repo, copies.get(repo.name)) for repo in page]
    return JSONResponse(lines, headers=headers)


def _check_query(query: QueryParams) -> None:
    """Raises HubError for what a list cannot be asked for: a wrong answer would pass for one."""
    unknown = sorted(name for name in query if not _LISTED_BY.fullmatch(name))
    if unknown:
        named = ", ".join(name[:40] for name in unknown[:5])
        raise HubError(400, f"repos are not listed by {named} here; ask with search or author")
    if (sort := query.get("sort")) is not None and not _SORTED_BY.fullmatch(sort):
        raise HubError(400, f"repos are not sorted by {sort[:40]} here")


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
    return JSONResponse(page, headers=headers | _commit_header(snapshot))


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
    return JSONResponse(found, headers=_commit_header(snapshot))


def choose_paths(files: Iterable[TreeFile], paths: list[str]) -> list[dict[str, Any]]:
    """Returns the lines of a listing that are those of `paths`, in that order."""
    lines = {line["path"]: line for line in list_tree(files, "", recursive=True)}
    # Each once, however often it is asked for.
    asked = dict.fromkeys(path.strip("/") for path in paths)
    return [lines[path] for path in asked if path in lines]


def check_access(_request: Request) -> Response:
    """GET /api/models/{repo}/auth-check: whoever comes here may read it."""
    return JSONResponse({})


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
    limit = read_number(request.query_params.get("limit"), _COMMITS_PAGE, most=_PAGE)
    page, headers = cut_page(request, log, limit)
    headers["X-Total-Count"] = str(len(log))
    return JSONResponse([_commit_line(commit) for commit in page], headers=headers)


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
    headers = _file_headers(request, file) | _commit_header(snapshot)
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
    headers |= {COMMIT_HEADER: commit, "Content-Length": str(len(pointer))}
    body = b"" if request.method == "HEAD" else pointer
    return Response(body, headers=headers, media_type="application/octet-stream")


# What answers are made of


def _repo_info(hub: Hub, snapshot: Snapshot, blobs: bool) -> dict[str, Any]:
    commit = snapshot.commit
    card = _read_card(hub.vault, snapshot)
    files = hub_files(hub.vault, snapshot.manifest) if blobs else {}
    siblings = [
        {"rfilename": entry.path, **(_blob(files[entry.path]) if blobs else {})}
        for entry in snapshot.manifest.files
    ]
    known = {n: card[n] for n in ("library_name", "pipeline_tag") if isinstance(card.get(n), str)}
    log = hub.history.log(commit.repo, commit.id)
    return {
        **_repo_facts(hub.history, commit.repo, log[-1].created if log else commit.created),
        "sha": commit.id,
        "lastModified": _date(commit.created),
        "tags": _texts(card.get("tags")),
        "cardData": card,
        "siblings": siblings,
        "usedStorage": snapshot.manifest.size,
        **known,
    }


def _repo_facts(history: History, repo: str, created: float) -> dict[str, Any]:
    named = RepoName.of(repo)
    return {
        "_id": quote(repo, safe=""),
        "id": named.id,
        **({"modelId": named.id} if named.kind == MODELS else {}),
        "author": named.namespace,
        "private": not history.is_public(repo),
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "createdAt": _date(created),
    }


def _repo_line(history: History, repo: RepoSummary, upstream: str | None) -> dict[str, Any]:
    facts = _repo_facts(history, repo.name, repo.updated)
    facts |= {} if upstream is None else {"mirroredFrom": upstream}
    return facts | {"lastModified": _date(repo.updated), "tags": []}


def _blob(file: HubFile) -> dict[str, Any]:
    known = {"size": file.entry.size, "blobId": file.blob.hex()}
    if not file.lfs:
        return known
    lfs = file.lfs_info()
    return known | {"lfs": {"sha256": lfs["oid"], **lfs}}


def _ref(name: str, ref: str, commit: str) -> dict[str, str]:
    return {"name": name, "ref": ref, "targetCommit": commit}


def _commit_line(commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.id,
        "title": _title(commit),
        "message": commit.message or "",
        "authors": [{"user": commit.author or "weightvault"}],
        "date": _date(commit.created),
    }


def _with_commits(
    hub: Hub, snapshot: Snapshot, lines: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Adds to each line the commit that made it what it is, as far back as is looked at."""
    log = hub.history.log(snapshot.commit.repo, snapshot.commit.id)
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
        looked_at += 1 + len(files) + parts // _PARTS_A_FILE
    found.update(dict.fromkeys(waiting, newer))
    return [line | {"lastCommit": _last_commit(found[line["path"]])} for line in lines]


def _last_commit(commit: Commit) -> dict[str, Any]:
    return {"id": commit.id, "title": _title(commit), "date": _date(commit.created)}


def _title(commit: Commit) -> str:
    return commit.title or _PUSH_TITLE


def _file_headers(request: Request, file: HubFile) -> dict[str, str]:
    name, pinned = file.entry.path.rpartition("/")[2], is_commit_id(request.path_params["rev"])
    headers = file_headers(request.headers, file.etag, name, pinned=pinned)
    headers["Content-Type"] = "application/octet-stream"
    linked = {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(file.entry.size)}
    return headers | (linked if file.lfs else {})


def _commit_header(snapshot: Snapshot) -> dict[str, str]:
    return {COMMIT_HEADER: snapshot.commit.id}


def _read_card(vault: LocalVault, snapshot: Snapshot) -> dict[str, Any]:
    """Returns the front matter of a repo's README.md: free text of unknown origin."""
    entry = snapshot.manifest.file(CARD)
    if entry is None:
        return {}
    stop = min(entry.size, MAX_CARD_HEAD_BYTES)
    pieces = vault.read_entry(entry, snapshot.manifest.chunk_bytes, 0, stop)
    return read_front_matter(b"".join(map(bytes, pieces)))


def _texts(value: Any) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def _date(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


# What requests ask


def asks_for(request: Request, name: str) -> bool:
    """Says whether a request's query has a flag."""
    return request.query_params.get(name, "").lower() == "true"


def read_number(text: str | None, default: int, *, most: int) -> int:
    """Returns the number from 1 to `most` nearest to what a text says, `default` for no number."""
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 9:
        return default
    return max(1, min(int(text), most))


def cut_page(request: Request, items: Sequence[_T], limit: int) -> tuple[list[_T], dict[str, str]]:
    """Returns the items from where the request's cursor says, and the link to the next ones."""
    start = _cursor(request.query_params.get("cursor"))
    page = list(items[start : start + limit])
    if start + limit >= len(items):
        return page, {}
    query = [(k, v) for k, v in request.query_params.multi_items() if k != "cursor"]
    query.append(("cursor", urlsafe_b64encode(str(start + limit).encode()).decode()))
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    path = raw.partition(b"?")[0].decode("ascii")
    return page, {"Link": f'<{base_url(request)}{path}?{urlencode(query)}>; rel="next"'}


def _cursor(text: str | None) -> int:
    if text is None:
        return 0
    try:
        return max(0, int(urlsafe_b64decode(text)))
    except ValueError as error:
        raise HubError(400, "the cursor is none of this server") from error
