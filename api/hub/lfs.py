"""The git-lfs API, for hub clients and for git-lfs itself: batch, transfers, verify.

Uploads carry no token: their addresses are signed, for one file of one repo, for a day. A long file
comes in parts, which are objects of the store until the last one is there; so they may come to
different servers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...dedup.errors import EntryNotFound, QuotaExceeded
from ...dedup.transfer.uploads import StagedFile
from ...store.backend import Backend
from ...store.cancel import check_cancelled
from ...store.object_keys import UPLOADS
from ...store.repo_names import namespace_of
from ..requests.access import require_write
from ..requests.callers import quotas_of
from ..requests.slots import run_checked
from ..requests.uploads import received_bytes, received_file
from ..sending.headers import file_headers
from ..v1.content import ranged
from .bodies import parse_object
from .errors import LFS_TYPE, HubError
from .lfs_grants import SECONDS, granted, sign_download, sign_upload
from .state import Hub, base_url, hub_of

_MOST_JSON_BYTES = 1 << 20
_MOST_OBJECTS = 1000
# Addresses of parts in one answer, and of one file: each takes some 400 bytes. Parts of files that
# would take more are longer.
_MOST_PARTS = 10_000
_MOST_PARTS_EACH = 1000
_PART_STEP_BYTES = 1 << 20
# Many times the longest file of a model; what is stated costs nothing.
_MOST_BYTES = 1 << 44
_READ_BYTES = 8 << 20
_MOST_OID = 200
_NO_OBJECT = f"an oid is a SHA-256, a size a number of bytes up to {_MOST_BYTES}"
_OPERATIONS = ("upload", "download")
# The second is what the JavaScript client of hubs calls it.
_HASH_NAMES = ("sha256", "sha_256")
_OID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class _Object:
    """A file that a client asks for or wants to send: its SHA-256 in hexadecimal, its bytes."""

    oid: str
    size: int

    @property
    def sha256(self) -> bytes:
        return bytes.fromhex(self.oid)

    @property
    def is_valid(self) -> bool:
        return _OID.fullmatch(self.oid) is not None and 0 <= self.size <= _MOST_BYTES


async def batch(request: Request) -> Response:
    """POST /{git}/info/lfs/objects/batch: where to send files to, or to get them from."""
    asked = parse_object(await received_bytes(request, _MOST_JSON_BYTES))
    return await run_in_threadpool(_batch, request, asked)


def _batch(request: Request, asked: dict[str, Any]) -> Response:
    hub, repo = hub_of(request), request.path_params["repo"]
    uploads = asked.get("operation") == "upload"
    if asked.get("operation") not in _OPERATIONS:
        raise HubError(422, f"an operation is one of {' and '.join(_OPERATIONS)}")
    if uploads:
        require_write(request, repo)
    hub.vault.require_repo(repo)
    if asked.get("hash_algo", "sha256") not in _HASH_NAMES:
        raise HubError(409, "files are named by their SHA-256 here, and by no other hash")
    listed = asked.get("objects")
    if not isinstance(listed, list):
        raise HubError(422, "a batch has a list of objects")
    if len(listed) > _MOST_OBJECTS:
        raise HubError(413, f"a batch has at most {_MOST_OBJECTS} objects")
    wanted = [_object(item, strict=False) for item in listed]
    offered = asked.get("transfers") or ["basic"]
    if not isinstance(offered, list):
        raise HubError(422, "transfers are a list of names")
    long = sum(item.is_valid and item.size > hub.settings.multipart_bytes for item in wanted)
    in_parts = uploads and "multipart" in offered and long > 0
    make = _upload_line if uploads else _download_line
    # Of each, where it is sent in parts.
    most_parts = min(_MOST_PARTS_EACH, _MOST_PARTS // long) if in_parts else 0
    lines = [make(request, hub, repo, item, most_parts) for item in wanted]
    transfer = "multipart" if in_parts else "basic"
    body = {"transfer": transfer, "objects": lines, "hash_algo": "sha256"}
    return JSONResponse(body, media_type=LFS_TYPE)


def _upload_line(
    request: Request, hub: Hub, repo: str, item: _Object, most_parts: int
) -> dict[str, Any]:
    line: dict[str, Any] = {"oid": item.oid, "size": item.size}
    check_cancelled()
    if not item.is_valid:
        return line | _line_error(422, _NO_OBJECT)
    found = hub.incoming.get(item.sha256, repo)
    if found is not None:
        if found.size != item.size:
            return line | _line_error(422, f"{item.oid} has {found.size} bytes, not {item.size}")
        return line
    try:
        _require_quota(request, hub, repo, item)
    except QuotaExceeded as error:
        return line | _line_error(507, error.message)
    actions: dict[str, Any] = {"verify": {"href": f"{_lfs_url(request)}/verify"}}
    # Long ones in parts; where one of a batch is, the others are, too, as the answer is for all.
    if most_parts and item.size > hub.settings.multipart_bytes:
        actions["upload"] = _parts_action(request, hub, repo, item, most_parts)
    else:
        actions["upload"] = _put_action(request, repo, item)
    if authorization := request.headers.get("authorization"):
        actions["verify"]["header"] = {"Authorization": authorization}
    return line | {"authenticated": True, "actions": actions}


def _require_quota(request: Request, hub: Hub, repo: str, item: _Object) -> None:
    """Raises QuotaExceeded for a file that the repo's namespace has no room for."""
    namespace = namespace_of(repo)
    if quotas_of(request).limits_of(namespace).any() and not hub.incoming.find(
        item.sha256, lambda name: namespace_of(name) == namespace
    ):
        quotas_of(request).require_file(namespace, item.size)


def _put_action(request: Request, repo: str, item: _Object) -> dict[str, Any]:
    token = sign_upload(request, repo, item.oid, item.size)
    return {"href": f"{_lfs_url(request)}/objects/{item.oid}?token={token}", "expires_in": SECONDS}


def _parts_action(
    request: Request, hub: Hub, repo: str, item: _Object, most_parts: int
) -> dict[str, Any]:
    part, least = hub.settings.part_bytes, -(-item.size // most_parts)
    if least > part:
        part = -(-least // _PART_STEP_BYTES) * _PART_STEP_BYTES
    token = sign_upload(request, repo, item.oid, item.size, uuid4().hex, part)
    url = f"{_lfs_url(request)}/parts/{item.oid}"
    count = -(-item.size // part)
    header = {f"{n:05}": f"{url}/{n}?token={token}" for n in range(1, count + 1)}
    return {
        "href": f"{url}?token={token}",
        "header": {"chunk_size": str(part), **header},
        "expires_in": SECONDS,
    }


def _download_line(
    request: Request, hub: Hub, repo: str, item: _Object, _most_parts: int
) -> dict[str, Any]:
    line: dict[str, Any] = {"oid": item.oid, "size": item.size}
    check_cancelled()
    if not item.is_valid:
        return line | _line_error(422, _NO_OBJECT)
    found = hub.incoming.get(item.sha256, repo)
    if found is None:
        return line | _line_error(404, f"{repo} has no file {item.oid}")
    token = sign_download(request, repo, item.oid)
    href = f"{_lfs_url(request)}/objects/{item.oid}?token={token}"
    actions = {"download": {"href": href, "expires_in": SECONDS}}
    return {"oid": item.oid, "size": found.size, "authenticated": True, "actions": actions}


async def put_object(request: Request) -> Response:
    """PUT /{git}/info/lfs/objects/{oid}: a whole file."""
    hub, (repo, oid, size) = hub_of(request), granted(request)
    async with received_file(request, hub.vault.scratch, size) as path:

        def add() -> None:
            hub.incoming.add_file(path, repo, sha256=bytes.fromhex(oid), size=size)

        await run_checked(request, add, repo=repo)
    return Response(headers={"ETag": f'"{oid}"'})


async def put_part(request: Request) -> Response:
    """PUT /{git}/info/lfs/parts/{oid}/{number}: a part of a long file."""
    hub, (repo, _, size, upload, part) = hub_of(request), granted(request)
    number = request.path_params["number"]
    if not re.fullmatch(r"[1-9][0-9]{0,4}", number) or int(number) > -(-size // part):
        raise HubError(404, f"there is no part {number[:20]}")
    expected = min(part, size - (int(number) - 1) * part)
    async with received_file(request, hub.vault.scratch, expected) as path:
        arrived = path.stat().st_size
        if arrived != expected:
            raise HubError(400, f"part {number} has {expected} bytes; {arrived} arrived")

        def keep() -> None:
            hub.vault.backend.put_file(_part_key(upload, int(number)), path)
            # Until the last one is there nothing else knows of it.
            quotas = quotas_of(request)
            quotas.keep_part(namespace_of(repo), upload, int(number), expected)

        await run_in_threadpool(keep)
    return Response(headers={"ETag": f'"{upload}-{number}"'})


async def complete(request: Request) -> Response:
    """POST /{git}/info/lfs/parts/{oid}: all parts are there."""
    await received_bytes(request, _MOST_JSON_BYTES)
    claims = granted(request)
    answer = await run_checked(request, _complete, hub_of(request), claims, repo=claims[0])
    quotas_of(request).drop_parts(namespace_of(claims[0]), claims[3])
    return answer


def _complete(hub: Hub, claims: list[Any]) -> Response:
    repo, oid, size, upload, part = claims
    sha256 = bytes.fromhex(oid)
    backend = hub.vault.backend
    keys = [_part_key(upload, n) for n in range(1, -(-size // part) + 1)]
    lacking = [key for key in keys if not backend.exists(key)]
    if lacking and hub.incoming.get(sha256, repo):
        # It was completed before, and the answer was lost.
        return JSONResponse({})
    if lacking:
        raise HubError(400, f"{len(lacking)} of {len(keys)} parts did not arrive: upload again")
    hub.incoming.add(_read_parts(backend, keys), repo, sha256=sha256, size=size)
    for key in keys:
        backend.delete(key)
    return JSONResponse({})


def _read_parts(backend: Backend, keys: list[str]) -> Iterator[bytes]:
    for key in keys:
        size = backend.size(key)
        for start in range(0, size, _READ_BYTES):
            check_cancelled()
            yield backend.get(key, start, min(size, start + _READ_BYTES))


async def verify(request: Request) -> Response:
    """POST /{git}/info/lfs/verify: is it there?"""
    asked = _object(parse_object(await received_bytes(request, _MOST_JSON_BYTES)))

    def check() -> Response:
        found = hub_of(request).incoming.get(asked.sha256, request.path_params["repo"])
        if found is None or found.size != asked.size:
            raise EntryNotFound(f"{asked.oid} of {asked.size} bytes did not arrive")
        return JSONResponse({})

    return await run_in_threadpool(check)


def get_object(request: Request) -> Response:
    """GET /{git}/info/lfs/objects/{oid}: a file's bytes, or a range of them."""
    hub = hub_of(request)
    repo, oid = request.path_params["repo"], request.path_params["oid"]
    found = hub.incoming.get(bytes.fromhex(oid), repo) if _OID.fullmatch(oid) else None
    if found is None:
        raise EntryNotFound(f"{repo} has no file {oid[:64]}")
    headers = file_headers(request.headers, oid, oid, pinned=True)
    return ranged(request.headers, found.size, headers, _reader(hub, found))


def _reader(hub: Hub, file: StagedFile) -> Any:
    def read(first: int, stop: int) -> Any:
        return hub.read(file.entry, file.chunk_bytes, first, stop)

    return read


def locks(_request: Request) -> Response:
    """Every request about locks: there are none, which git-lfs takes without complaint."""
    return JSONResponse({"message": "locks are not supported"}, 404, media_type=LFS_TYPE)


def _part_key(upload: str, number: int) -> str:
    return f"{UPLOADS}{upload}/{number:05}"


def _lfs_url(request: Request) -> str:
    return f"{base_url(request)}/{request.path_params['repo']}.git/info/lfs"


def _object(item: Any, *, strict: bool = True) -> _Object:
    """Returns the object that an item of a request is; with `strict`, a valid one. Raises
    HubError."""
    try:
        oid, size = item["oid"], item["size"]
    except (KeyError, TypeError) as error:
        raise HubError(422, "an object has an oid and a size") from error
    if not isinstance(oid, str) or type(size) is not int:
        raise HubError(422, _NO_OBJECT)
    found = _Object(oid[:_MOST_OID], size)
    if strict and not found.is_valid:
        raise HubError(422, _NO_OBJECT)
    return found


def _line_error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
