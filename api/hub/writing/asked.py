"""What requests to change something ask, and of which repo."""

from __future__ import annotations

import base64
from typing import Any

from starlette.requests import Request

from ....dedup.model.names import check_repo
from ....store.repo_names import MODELS, RepoName
from ...requests.audit import note_repo
from ...requests.callers import caller_of
from ...requests.uploads import received_bytes
from ..bodies import parse_object
from ..errors import HubError
from ..state import Hub, hub_of

MOST_TITLE, MOST_TEXT = 500, 65_536
"""The longest title and text of a commit that are kept, in characters."""
_MOST_JSON_BYTES = 1 << 20

_KINDS = {"model": MODELS, "dataset": "datasets", "space": "spaces"}


def writable(request: Request) -> tuple[Hub, str]:
    """Returns the hub and the repo of a request, which is there."""
    repo = request.path_params["repo"]
    hub = hub_of(request)
    hub.vault.require_repo(repo)
    return hub, repo


def asked_repo(request: Request, asked: dict[str, Any]) -> str:
    """Returns the name of the repo that a body names. Raises HubError, InvalidName."""
    name, namespace = str(asked.get("name") or ""), asked.get("organization")
    if "/" in name:
        namespace, _, name = name.partition("/")
    kind = _KINDS.get(str(asked.get("type") or "model"))
    if kind is None:
        raise HubError(400, f"there are no repos of type {str(asked.get('type'))[:40]!r}")
    repo = check_repo(str(RepoName(kind, str(namespace or caller_of(request).name), name)))
    note_repo(request, repo)
    return repo


def message_text(value: Any, most: int) -> str:
    """What a commit or tag says, as far as it is kept; no database keeps NUL in a text."""
    return str(value or "")[:most].replace("\0", "")


async def json_body(request: Request, *, empty: bool = False) -> dict[str, Any]:
    """Returns the JSON object that a request carries; none of it where it may be `empty` and is."""
    body = await received_bytes(request, _MOST_JSON_BYTES)
    return {} if empty and not body.strip() else parse_object(body)


def decode_content(value: dict[str, Any]) -> bytes:
    """Returns the bytes of a file that travels in JSON. Raises KeyError, TypeError, ValueError."""
    content = value["content"]
    if not isinstance(content, str):
        raise TypeError("its content is no text")
    if value.get("encoding", "utf-8") == "base64":
        return base64.b64decode(content, validate=True)
    return content.encode()
