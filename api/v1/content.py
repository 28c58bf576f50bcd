"""The endpoints that send content: manifests, frames, files and single tensors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any
from urllib.parse import quote

from blake3 import blake3
from fastapi import Query, Request, Response
from starlette.datastructures import Headers

from ...dedup.model.files.entries import FileEntry, TensorPlace
from ...dedup.model.files.expansion import check_repeats
from ...dedup.model.names import is_commit_id
from ...dedup.reading.chunk_reader import Buffer
from ...dedup.transfer.sent_frames.offered_frames import OfferedFrames
from ...dedup.transfer.sent_frames.standalone_frames import read_sendable, read_standalone
from ...dedup.vault import Commit, Snapshot
from ..protocol.wire import COMMIT_HEADER, COMMIT_ID_HEADER, DTYPE_HEADER, SHAPE_HEADER
from ..requests.access import may_read_repo, needs
from ..requests.callers import caller_of
from ..requests.repo_routes import RepoRoutes
from ..sending.downloads import Read
from ..sending.frames_body import FramesBody
from ..sending.headers import attachment, file_headers
from ..sending.ranges import parse_range
from ..sending.streams import BytesStream
from .documented import FAILURES, FRAMES_BODY
from .json_bodies import FramesParam
from .routes import RepoParam, RevisionParam, VaultParam
from .schemas import CommitSchema, ErrorSchema

_BYTES = {"content": {"application/octet-stream": {}}}
_RANGED: dict[int | str, dict[str, Any]] = {
    200: {**_BYTES, "description": "All of it"},
    206: {**_BYTES, "description": "The range asked for"},
    304: {"description": "If-None-Match named what is still there"},
    416: {"model": ErrorSchema, "description": "Not one byte of the range exists"},
}

of_repo = RepoRoutes(
    "/v1/repos",
    tags=["content"],
    default_response_class=Response,
    responses=FAILURES,
    dependencies=needs(may_read_repo),
)


@of_repo.get("/manifest", summary="Read a manifest", responses={200: _BYTES})
def read_manifest(
    request: Request, vault: VaultParam, repo: RepoParam, revision: RevisionParam = "main"
) -> Response:
    """Gives a revision's manifest as bytes (FORMAT.md), its commit as JSON in X-Weightvault-Commit.

    The ETag is the BLAKE3-256 of the bytes.
    """
    commit, body = vault.read_manifest(repo, revision)
    # Its name is the hash of its bytes.
    headers = file_headers(
        request.headers, commit.manifest, "manifest", pinned=is_commit_id(revision)
    )
    headers |= {COMMIT_HEADER: _commit_json(commit), "Accept-Ranges": "none"}
    return Response(body, media_type="application/octet-stream", headers=headers)


@of_repo.post("/frames", summary="Read frames", responses={200: _BYTES}, openapi_extra=FRAMES_BODY)
def read_frames(
    request: Request,
    vault: VaultParam,
    repo: RepoParam,
    asked: FramesParam,
    revision: RevisionParam = "main",
) -> Response:
    """Gives the frames of the chunks asked for, in that order.

    Each frame comes after its length as an unsigned 64-bit little-endian integer. Only chunks of
    that revision, and bases of its deltas, are given; with a token that does not read all repos,
    no bases, and raw frames only. Chunks that are computed from others come standalone.

    With `offers`, frames are standalone, or made from chunks that are offered and that the token
    may read, where that is smaller; encoded on the way where they are not stored so, 192 MiB of
    chunks a request. A failure on the way breaks the connection.
    """
    digests, caller = asked.digests, caller_of(request)
    if len(set(digests)) != len(digests):
        check_repeats(digests, vault.resolve(repo, revision).manifest.digests())
    if asked.offers is not None:
        fetch = OfferedFrames(vault, repo, revision, asked.offers, caller.scope).fetch
    else:
        read = read_sendable if caller.reads_all else read_standalone
        fetch = partial(read, vault, repo, revision)
    body = FramesBody(fetch, digests)
    return BytesStream(body.read, 0, None, headers={"Content-Disposition": attachment("frames")})


@of_repo.get("/files/{path:path}", summary="Read a file", responses=_RANGED)
def read_file(
    request: Request,
    vault: VaultParam,
    repo: RepoParam,
    path: str,
    revision: RevisionParam = "main",
) -> Response:
    """Gives a file's bytes, or the range of them that a Range header asks for."""
    snapshot, entry = vault.stat_file(repo, revision, path)
    headers = _file_headers(request, revision, snapshot, entry)

    read = partial(vault.serve_entry, entry, snapshot.manifest.chunk_bytes)
    return ranged(request.headers, entry.size, headers, read)


@of_repo.head("/files/{path:path}", summary="Look up a file", responses={200: _BYTES})
def stat_file(
    request: Request,
    vault: VaultParam,
    repo: RepoParam,
    path: str,
    revision: RevisionParam = "main",
) -> Response:
    """Gives the headers of a read, without the bytes."""
    snapshot, entry = vault.stat_file(repo, revision, path)
    headers = _file_headers(request, revision, snapshot, entry)
    headers = {**headers, "Content-Length": str(entry.size)}
    return Response(media_type="application/octet-stream", headers=headers)


@of_repo.get("/tensors/{tensor:path}", summary="Read a tensor", responses=_RANGED)
def read_tensor(
    request: Request,
    vault: VaultParam,
    repo: RepoParam,
    tensor: str,
    revision: RevisionParam = "main",
    file: Annotated[str | None, Query(description="needed if several files have the name")] = None,
) -> Response:
    """Gives a tensor's raw bytes, C-order, or the range of them that a Range header asks for.

    X-Weightvault-Dtype is the dtype as the file calls it, X-Weightvault-Shape the shape, with
    commas between the numbers and empty for a scalar.
    """
    snapshot, found, _ = vault.read_tensor(repo, revision, tensor, file)
    entry, chunk_bytes = snapshot.manifest.file(found.path), snapshot.manifest.chunk_bytes
    assert entry is not None

    def read(first: int, stop: int) -> Iterator[Buffer]:
        return vault.serve_entry(entry, chunk_bytes, found.offset + first, found.offset + stop)

    headers = _tensor_headers(request, revision, snapshot, found)
    return ranged(request.headers, found.tensor.size, headers, read)


def ranged(
    asked: Headers,
    size: int,
    headers: dict[str, str],
    read: Read,
) -> Response:
    """Answers with the whole of `size` bytes or the part of it that the request's headers `asked`
    want; `headers` have the ETag, `read` gives bytes from the first to before the last."""
    etag = headers["ETag"]
    if etag in asked.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    wanted = parse_range(asked.get("range"), size)
    if wanted is None or asked.get("if-range", etag) != etag:
        return BytesStream(read, 0, size, 200, {**headers, "Content-Length": str(size)})
    first, stop = wanted
    part = {
        "Content-Length": str(stop - first),
        "Content-Range": f"bytes {first}-{stop - 1}/{size}",
    }
    return BytesStream(read, first, stop, 206, {**headers, **part})


def _file_headers(
    request: Request, revision: str, snapshot: Snapshot, entry: FileEntry
) -> dict[str, str]:
    name, pinned = entry.path.rpartition("/")[2], is_commit_id(revision)
    headers = file_headers(request.headers, entry.digest.hex(), name, pinned=pinned)
    return {**headers, COMMIT_ID_HEADER: snapshot.commit.id}


def _tensor_headers(
    request: Request, revision: str, snapshot: Snapshot, found: TensorPlace
) -> dict[str, str]:
    tensor, pinned = found.tensor, is_commit_id(revision)
    held = blake3(b"".join([*found.chunks, f"{found.start}+{tensor.size}".encode()]))
    return {
        **file_headers(request.headers, held.hexdigest(), tensor.name, pinned=pinned),
        COMMIT_ID_HEADER: snapshot.commit.id,
        # Both come from an uploaded file, so they may hold what no header may.
        DTYPE_HEADER: quote(tensor.dtype),
        SHAPE_HEADER: ",".join(map(str, tensor.shape)),
    }


def _commit_json(commit: Commit) -> str:
    return CommitSchema.model_validate(commit).model_dump_json()
