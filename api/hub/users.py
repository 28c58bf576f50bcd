"""Who the client is, and small questions that clients ask and any answer to which will do."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...dedup.model.cards import InvalidCard, parse_front_matter, split_card
from ...store.repo_names import KINDS, MODELS
from ..requests.callers import caller_of
from ..requests.uploads import received_bytes
from .bodies import parse_object
from .card_check import find_errors, find_warnings
from .errors import HubError

_MOST_CARD_BYTES = 4 << 20
# What follows a name without a namespace, as clients have it of repos of old.
_BELOW_BARE = (
    *("", "revision", "tree", "refs", "commits", "paths-info", "auth-check", "resolve", "like"),
    *("preupload", "commit", "branch", "tag", "super-squash", "lfs-files", "duplicate", "settings"),
    *("xet-read-token", "xet-write-token"),
)


def whoami(request: Request) -> Response:
    """GET /api/whoami-v2."""
    caller = caller_of(request)
    token = {"displayName": caller.name, "role": caller.role}
    return JSONResponse(
        {
            "type": "user",
            "id": caller.name,
            "name": caller.name,
            "fullname": caller.name,
            "orgs": [_organization(name) for name in caller.namespaces if name != caller.name],
            "auth": {"type": "access_token", "accessToken": token},
        }
    )


def _organization(namespace: str) -> dict[str, Any]:
    return {"type": "org", "id": namespace, "name": namespace, "fullname": namespace}


async def validate_card(request: Request) -> Response:
    """POST /api/validate-yaml: what is wrong with the front matter of a README.md, and lacks."""
    body = await received_bytes(request, _MOST_CARD_BYTES)
    return await run_in_threadpool(_validate_card, body)


def _validate_card(body: bytes) -> Response:
    errors: list[dict[str, Any]] = []
    warnings: list[dict[str, Any]] = []
    try:
        content = parse_object(body).get("content")
        if not isinstance(content, str):
            raise HubError(400, "the body has no content")
        matter, _ = split_card(content)
        card = parse_front_matter(matter or "")
        errors += [{"message": text} for text in find_errors(card)]
        warnings += [{"message": text} for text in find_warnings(card)]
    except (InvalidCard, HubError) as error:
        errors.append({"message": error.message})
    return JSONResponse({"errors": errors, "warnings": warnings}, 400 if errors else 200)


def nothing(_request: Request) -> Response:
    """Answers what is only told, such as telemetry."""
    return JSONResponse({})


def no_such_repo(_request: Request) -> Response:
    """Answers for a repo that cannot be here."""
    raise HubError(404, "Repository not found: a repo here is namespace/name", "RepoNotFound")


def unknown(request: Request) -> Response:
    """Answers for everything else below /api."""
    kind, _, rest = request.url.path.removeprefix("/api/").partition("/")
    _, _, below = rest.partition("/")
    if kind in (MODELS, *KINDS) and rest and below.partition("/")[0] in _BELOW_BARE:
        no_such_repo(request)
    raise HubError(404, f"there is no endpoint {request.method} {request.url.path}")
