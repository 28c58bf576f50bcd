"""Where the tokens of Xet clients come from, and all addresses of the protocol."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....store.repo_names import namespace_of
from ...requests.access import may_read_repo, may_write_repo, public_endpoint
from ...requests.callers import caller_of
from ..state import base_url, hub_of
from .cas import (
    PREFIX,
    add_shard,
    add_shard_telling,
    add_xorb,
    find_chunk,
    grant_xorb,
    take_telemetry,
    uploads_of,
)
from .grants import TOKEN_SECONDS, XetGrant, holds_write_token, issue_token


def write_token(request: Request) -> Response:
    """GET /api/models/{repo}/xet-write-token/{rev}."""
    return _answer_token(request, write=True)


def read_token(request: Request) -> Response:
    """GET /api/models/{repo}/xet-read-token/{rev}."""
    return _answer_token(request, write=False)


def _answer_token(request: Request, *, write: bool) -> Response:
    """Answers with an address and a token for it; some clients read the body, some the headers.

    The revision is not looked at: it may not be there yet, or be the word "None".
    """
    repo = request.path_params["repo"]
    hub_of(request).vault.require_repo(repo)
    generation = uploads_of(request).open_generation(namespace_of(repo))
    expires = int(time.time()) + TOKEN_SECONDS
    grant = XetGrant(repo, generation.name, write, caller_of(request).token_id)
    token = issue_token(hub_of(request).signer, grant, expires)
    address = f"{base_url(request)}{PREFIX}/{generation.name}"
    headers = {
        "X-Xet-Cas-Url": address,
        "X-Xet-Access-Token": token,
        "X-Xet-Token-Expiration": str(expires),
    }
    return JSONResponse({"casUrl": address, "accessToken": token, "exp": expires}, 200, headers)


_CAS = f"{PREFIX}/{{generation}}"

ROUTES = (
    ("GET", "/api/{kind}/{repo}/xet-write-token/{rev}", write_token, may_write_repo),
    ("GET", "/api/{kind}/{repo}/xet-read-token/{rev}", read_token, may_read_repo),
    ("POST", f"{_CAS}/v1/xorbs/{{prefix}}/{{hash}}", add_xorb, holds_write_token),
    ("POST", f"{_CAS}/v1/xorb-grants/{{prefix}}/{{hash}}", grant_xorb, holds_write_token),
    ("GET", f"{_CAS}/v1/chunks/{{prefix}}/{{hash}}", find_chunk, holds_write_token),
    ("POST", f"{_CAS}/v1/shards", add_shard, holds_write_token),
    ("POST", f"{_CAS}/v2/shards", add_shard_telling, holds_write_token),
    ("POST", "/v1/telemetry", take_telemetry, public_endpoint),
)
