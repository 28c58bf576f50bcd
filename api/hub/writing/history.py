"""Rewrites what a repo's branches tell: squashed history, files of git-lfs that go for good."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....dedup.maintenance.rewriting import erase_files, squash_branch
from ....dedup.transfer.refs import Message
from ...requests.callers import caller_of
from ...requests.slots import run_checked
from ..errors import HubError
from ..state import branch_of
from .asked import MOST_TITLE, json_body, message_text, writable

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_ERASED = 1000


async def squash(request: Request) -> Response:
    """POST /api/models/{repo}/super-squash/{rev}: one commit of what the branch has."""
    asked = await json_body(request, empty=True)

    def work() -> Response:
        hub, repo = writable(request)
        branch = branch_of(request.path_params["rev"])
        title = message_text(asked.get("message"), MOST_TITLE) or f"Super-squash branch {branch!r}"
        message = Message(title, author=caller_of(request).name)
        made = squash_branch(hub.vault, hub.history, repo, branch, message)
        return JSONResponse({"commitOid": made.id})

    return await run_checked(request, work)


async def erase_lfs_files(request: Request) -> Response:
    """POST /api/models/{repo}/lfs-files/batch: takes files out of all branches, for good."""
    asked = await json_body(request)
    wanted = _asked_files(asked)

    def work() -> Response:
        hub, repo = writable(request)
        erase_files(hub.vault, hub.history, repo, wanted, caller_of(request).name)
        return JSONResponse({})

    return await run_checked(request, work)


def _asked_files(asked: dict[str, Any]) -> set[bytes]:
    deletions = asked.get("deletions")
    listed = deletions.get("sha") if isinstance(deletions, dict) else None
    if not isinstance(deletions, dict) or not isinstance(listed, list):
        raise HubError(400, "deletions have a list of SHA-256")
    if not deletions.get("rewriteHistory", True):
        raise HubError(400, "files go for good only with the commits that have them")
    if len(listed) > _MOST_ERASED:
        raise HubError(413, f"at most {_MOST_ERASED} files go at a time")
    if not all(isinstance(each, str) and _SHA256.fullmatch(each) for each in listed):
        raise HubError(400, "a file is named by its SHA-256")
    return {bytes.fromhex(each) for each in listed}
