"""Makes and deletes branches and tags."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....dedup.maintenance.rewriting import create_empty_branch
from ....dedup.transfer.refs import DEFAULT_BRANCH, Message
from ...requests.callers import caller_of
from ..state import branch_of
from .asked import MOST_TEXT, json_body, message_text, writable


async def create_branch(request: Request) -> Response:
    """POST /api/models/{repo}/branch/{name*}."""
    asked = await json_body(request, empty=True)

    def create() -> Response:
        hub, repo = writable(request)
        start = hub.name_revision(repo, str(asked.get("startingPoint") or DEFAULT_BRANCH))
        name, anew = branch_of(request.path_params["name"]), asked.get("overwrite") is True
        if asked.get("emptyBranch") is True:
            message = Message("initial commit", author=caller_of(request).name)
            create_empty_branch(hub.vault, repo, name, message)
            return JSONResponse({})
        hub.history.create_branch(repo, name, start, overwrite=anew)
        return JSONResponse({})

    return await run_in_threadpool(create)


def delete_branch(request: Request) -> Response:
    """DELETE /api/models/{repo}/branch/{name*}."""
    hub, repo = writable(request)
    hub.history.delete_branch(repo, branch_of(request.path_params["name"]))
    return JSONResponse({})


async def create_tag(request: Request) -> Response:
    """POST /api/models/{repo}/tag/{rev}."""
    asked = await json_body(request)

    def create() -> Response:
        hub, repo = writable(request)
        revision = hub.name_revision(repo, request.path_params["rev"])
        message = asked.get("message")
        text = message_text(message, MOST_TEXT) if isinstance(message, str) else None
        hub.history.create_tag(repo, str(asked.get("tag")), revision, text)
        return JSONResponse({})

    return await run_in_threadpool(create)


def delete_tag(request: Request) -> Response:
    """DELETE /api/models/{repo}/tag/{tag}."""
    hub, repo = writable(request)
    hub.history.delete_tag(repo, request.path_params["rev"])
    return JSONResponse({})
