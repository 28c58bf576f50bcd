"""Repos of an upstream hub, in front of our own: `mirrored` makes an endpoint of the hub's answer
for them first, `may_read_mirrored` says who may read them.

What the upstream says is passed on, without Xet, which leads to its own servers. Its files are sent
from the vault, or while they arrive.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial, wraps
from typing import Any
from urllib.parse import quote

from anyio import to_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ...dedup.errors import EntryNotFound, RepoNotFound, RevisionNotFound, VaultError
from ...dedup.model.names import check_revision, is_commit_id
from ...store.repo_names import RepoName
from ..errors import UpstreamFailed
from ..mirror.answers import api_path, next_page
from ..mirror.fetches import Fetch
from ..mirror.guard import credential_of
from ..mirror.listing import UpstreamFile
from ..mirror.mirror import Credential, Mirror
from ..mirror.upstream import parse_list
from ..requests.access import declare_right, repo_in_path, require_read
from ..requests.callers import caller_of
from ..sending.headers import file_headers
from ..sending.ranges import parse_range
from ..v1.content import ranged
from .errors import COMMIT_HEADER
from .files import list_tree, make_pointer
from .reading.contents import send_pointer
from .reading.info import asked_properties, choose
from .reading.paging import asks_for, cut_page, read_number
from .reading.trees import asked_paths, choose_paths
from .routing import Endpoint
from .state import base_url, branch_of, hub_of

_PAGE = 1000
_MOST_QUERY = 2000
_log = logging.getLogger("weightvault.api")

Answer = Callable[[Request, Mirror, Credential], Any]


# Who may


def mirror_of(request: Request) -> Mirror | None:
    """Returns the mirror of the application, if it has one."""
    return request.app.state.mirror


@declare_right
async def may_read_mirrored(request: Request) -> None:
    """Who may read the repo of the path, which the upstream may have if it is not here."""
    mirror = mirror_of(request)
    if mirror is None:
        await run_in_threadpool(require_read, request, repo_in_path(request))
        return
    await to_thread.run_sync(_admit, request, mirror, limiter=mirror.limiter)


def _admit(request: Request, mirror: Mirror) -> None:
    caller, repo = caller_of(request), repo_in_path(request)
    admitted = False
    # Who may read nothing here has nothing fetched.
    if caller.role is not None or caller.reads != "none":
        admitted = mirror.admit(repo, credential_of(request, mirror, caller))
    if not admitted:
        require_read(request, repo)
    request.state.mirrored = admitted


# Endpoints


def mirrored(answer: Answer, local: Endpoint) -> Endpoint:
    """Returns an endpoint that answers for mirrored repos by `answer`, for others by `local`; by
    this, too, where the upstream does not answer and the vault has what is asked for."""

    @wraps(local)
    async def endpoint(request: Request) -> Response:
        mirror = mirror_of(request)
        if mirror is None or not getattr(request.state, "mirrored", False):
            return await _call(local, request)
        credential = credential_of(request, mirror, caller_of(request))
        try:
            if inspect.iscoroutinefunction(answer):
                return await answer(request, mirror, credential)
            work = partial(answer, request, mirror, credential)
            return await to_thread.run_sync(work, limiter=mirror.limiter)
        except UpstreamFailed as failed:
            try:
                return await _call(local, request)
            except (RepoNotFound, RevisionNotFound):
                raise failed from None

    return endpoint


async def _call(local: Endpoint, request: Request) -> Response:
    if inspect.iscoroutinefunction(local):
        return await local(request)
    return await run_in_threadpool(local, request)


def get_repo(request: Request, mirror: Mirror, credential: Credential) -> Response:
    """GET /api/models/{repo}[/revision/{rev}]."""
    repo, revision = request.path_params["repo"], _revision(request)
    asked = asked_properties(request, request.path_params["kind"])
    said = mirror.answers.info(repo, revision, credential.token)
    blobs = asks_for(request, "blobs") or asks_for(request, "files_metadata")
    if blobs and is_commit_id(str(said.get("sha"))):
        listing = mirror.answers.listing(repo, said["sha"], credential.token)
        said["siblings"] = [_sibling(file) for file in listing.values()]
    headers = {COMMIT_HEADER: str(said["sha"])} if is_commit_id(str(said.get("sha"))) else {}
    said |= {"mirroredFrom": mirror.url}
    return JSONResponse(choose(said, asked), headers=headers)


def get_tree(request: Request, mirror: Mirror, credential: Credential) -> Response:
    """GET /api/models/{repo}/tree/{rev}[/{path}]."""
    commit, files = _open(request, mirror, credential)
    folder = request.path_params.get("path", "").strip("/")
    lines = list(list_tree(files.values(), folder, asks_for(request, "recursive")))
    if folder and not lines:
        raise EntryNotFound(f"{request.path_params['repo']} has no folder {folder!r}")
    limit = read_number(request.query_params.get("limit"), _PAGE, most=_PAGE)
    page, headers = cut_page(request, lines, limit)
    return JSONResponse(page, headers=headers | {COMMIT_HEADER: commit})


async def get_paths(request: Request, mirror: Mirror, credential: Credential) -> Response:
    """POST /api/models/{repo}/paths-info/{rev}."""
    paths, _ = await asked_paths(request)

    def answer() -> Response:
        commit, files = _open(request, mirror, credential)
        return JSONResponse(choose_paths(files.values(), paths), headers={COMMIT_HEADER: commit})

    return await to_thread.run_sync(answer, limiter=mirror.limiter)


def get_refs(request: Request, mirror: Mirror, credential: Credential) -> Response:
    """GET /api/models/{repo}/refs."""
    repo, pulls = request.path_params["repo"], request.query_params.get("include_prs", "")
    pulls = pulls.lower() in ("1", "true")
    name, query = ("refs pulls", "?include_prs=1") if pulls else ("refs", "")
    path = api_path(repo, f"/refs{query}")
    return JSONResponse(mirror.answers.ask(repo, name, path, credential.token))


def get_commits(request: Request, mirror: Mirror, credential: Credential) -> Response:
    """GET /api/models/{repo}/commits/{rev}: not kept, as they are many."""
    revision = quote(check_revision(_revision(request) or ""), safe="")
    query = request.scope["query_string"].decode("ascii", "replace")[:_MOST_QUERY]
    path = api_path(request.path_params["repo"], f"/commits/{revision}")
    reply = mirror.answers.reach("GET", f"{path}?{query}" if query else path, credential.token)
    headers: dict[str, str] = {}
    if (following := next_page(reply)) is not None:
        headers["Link"] = f'<{base_url(request)}{following}>; rel="next"'
    count = reply.headers.get("x-total-count", "")
    if count.isascii() and count.isdecimal():
        headers["X-Total-Count"] = count
    return JSONResponse(parse_list(reply), headers=headers)


def get_file(request: Request, mirror: Mirror, credential: Credential) -> Response:
    """GET and HEAD /{page}/resolve/{rev}/{path}: from the vault, or while it arrives."""
    return _send_file(request, mirror, credential, raw=False)


def get_raw(request: Request, mirror: Mirror, credential: Credential) -> Response:
    """GET and HEAD /{page}/raw/{rev}/{path}: the pointer to a file of git-lfs, else the file."""
    return _send_file(request, mirror, credential, raw=True)


def _send_file(request: Request, mirror: Mirror, credential: Credential, *, raw: bool) -> Response:
    commit, files = _open(request, mirror, credential)
    repo, path = request.path_params["repo"], request.path_params["path"]
    file = files.get(path)
    if file is None:
        where = f"{RepoName.of(repo).id} at {request.path_params['rev']}"
        raise EntryNotFound(f"Entry not found: {where} has no file {path!r}")
    headers = _file_headers(request, file, commit)
    if raw and file.sha256 is not None:
        return send_pointer(request, file.oid, make_pointer(file.sha256, file.size), commit)
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(file.size)})
    stored = mirror.storing.find(repo, commit, file)
    if stored is None:
        return _arriving(request, file, headers, mirror.fetch(repo, commit, file, credential))
    mirror.storing.renew(repo, commit, stored)
    hub = hub_of(request)

    def read(first: int, stop: int) -> Any:
        return hub.read(stored.entry, stored.chunk_bytes, first, stop)

    return ranged(request.headers, file.size, headers, read)


def _arriving(
    request: Request, file: UpstreamFile, headers: dict[str, str], fetch: Fetch
) -> Response:
    """Answers with a file, or the range of it that is asked for, as it arrives."""
    etag, size = headers["ETag"], file.size
    wanted = parse_range(request.headers.get("range"), size)
    if wanted is None or request.headers.get("if-range", etag) != etag:
        return ArrivingFile(fetch, 0, size, 200, headers | {"Content-Length": str(size)})
    first, stop = wanted
    part = {
        "Content-Length": str(stop - first),
        "Content-Range": f"bytes {first}-{stop - 1}/{size}",
    }
    return ArrivingFile(fetch, first, stop, 206, headers | part)


class ArrivingFile(StreamingResponse):
    """Sends the bytes [first, stop) of a file on its way. Holds no thread while it waits.

    Raises what the fetch failed with before anything is sent; later the connection is broken, so
    that no body looks whole that is not.
    """

    media_type = "application/octet-stream"

    def __init__(
        self, fetch: Fetch, first: int, stop: int, status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(iter(()), status, headers)
        self._pieces: AsyncIterator[bytes] = fetch.read(first, stop)
        self._first = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Waits for the first piece, then sends header and pieces."""
        self._first = await anext(self._pieces, b"")
        await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Sends header and pieces; returns without the closing message if the file fails."""
        head = {"type": "http.response.start", "status": self.status_code}
        await send({**head, "headers": self.raw_headers})
        body: dict[str, Any] = {"type": "http.response.body", "more_body": True}
        await send({**body, "body": self._first})
        try:
            async for piece in self._pieces:
                await send({**body, "body": piece})
        except VaultError as error:
            _log.error("broke off a mirrored file (%s): %s", error.code, error.message)
        else:
            await send({**body, "body": b"", "more_body": False})


# What answers are made of


def _open(
    request: Request, mirror: Mirror, credential: Credential
) -> tuple[str, dict[str, UpstreamFile]]:
    """Returns the commit that a request's path names, and its files."""
    repo = request.path_params["repo"]
    commit = mirror.answers.find_commit(repo, _revision(request), credential.token)
    request.state.commit = commit
    return commit, mirror.answers.listing(repo, commit, credential.token)


def _revision(request: Request) -> str | None:
    named = request.path_params.get("rev")
    return None if named is None else branch_of(named)


def _sibling(file: UpstreamFile) -> dict[str, Any]:
    entry = file.tree_entry()
    known = {"rfilename": file.path, "size": file.size, "blobId": file.oid}
    return known | ({"lfs": {"sha256": file.sha256, **entry["lfs"]}} if file.sha256 else {})


def _file_headers(request: Request, file: UpstreamFile, commit: str) -> dict[str, str]:
    name, pinned = file.path.rpartition("/")[2], is_commit_id(request.path_params["rev"])
    headers = file_headers(request.headers, file.etag, name, pinned=pinned)
    headers |= {"Content-Type": "application/octet-stream", COMMIT_HEADER: commit}
    linked = {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(file.size)}
    return headers | (linked if file.sha256 else {})
