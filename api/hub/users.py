"""Who the client is, and small questions that clients ask and any answer to which will do."""

from __future__ import annotations

import json
from typing import Any

import yaml
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..access import caller_of
from ..errors import Unauthorized
from ..uploads import received_bytes
from .errors import HubError

_MOST_CARD_BYTES = 4 << 20


def whoami(request: Request) -> Response:
    """GET /api/whoami-v2."""
    caller = caller_of(request)
    if caller.role is None:
        raise Unauthorized("Invalid credentials in Authorization header")
    token = {"displayName": caller.name, "role": caller.role}
    return JSONResponse(
        {
            "type": "user",
            "id": caller.name,
            "name": caller.name,
            "fullname": caller.name,
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": token},
        }
    )


async def validate_card(request: Request) -> Response:
    """POST /api/validate-yaml: whether the front matter of a README.md is YAML."""
    body = await received_bytes(request, _MOST_CARD_BYTES)
    return await run_in_threadpool(_validate_card, body)


def _validate_card(body: bytes) -> Response:
    errors: list[dict[str, Any]] = []
    try:
        content = json.loads(body)["content"]
        if content.startswith("---"):
            card = yaml.safe_load(content[3:].partition("\n---")[0])
            if card is not None and not isinstance(card, dict):
                errors.append({"message": "the front matter is no mapping"})
    except yaml.YAMLError as error:
        errors.append({"message": f"the front matter is not YAML: {error}"})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        errors.append({"message": "the body has no content"})
    return JSONResponse({"errors": errors, "warnings": []}, 400 if errors else 200)


def nothing(_request: Request) -> Response:
    """Answers what is only told, such as telemetry."""
    return JSONResponse({})


def unknown(request: Request) -> Response:
    """Answers for everything else below /api."""
    raise HubError(404, f"there is no endpoint {request.method} {request.url.path}")
