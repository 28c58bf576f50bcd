"""Routes by the path as it was sent: a branch with a slash is one part of it, percent-encoded,
which is lost where paths are decoded before they are matched."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

from ...dedup.errors import RepoNotFound, VaultError
from ...store.repo_names import KINDS, MODELS, RepoName
from ..requests.access import Right
from ..requests.callers import BASIC_ALLOWED
from .errors import HubError, error_response

Endpoint = Callable[[Request], Any]
FindElsewhere = Callable[[Request, int], Response | None]
"""Takes a request for a repo that is not there, and which part of its address, from 0, is the
repo's namespace; returns the answer that leads to it by another name."""

_KINDS = (MODELS, *KINDS)
_PARTS = "weightvault.hub_parts"
_REPOS = ("{repo}", "{page}", "{git}")


class HubRoute(BaseRoute):
    """A route of the hub's API.

    A pattern is parts between slashes: text; `{name}`, any part; `{name*}` at the end, one part or
    more; `{repo}`, a repo's name after `api/{kind}`; `{page}`, one as pages have it, with its kind
    before it unless it is a model; `{git}` likewise with ".git" at its end. Both give `repo`.
    Endpoints are functions, async or not, of the request; its `path_params` are the parts decoded.
    They are called where the `right` holds. `basic`: clients may send Basic credentials. Where the
    repo is not there, `find_elsewhere` may know another name of it.
    """

    def __init__(
        self, methods: str, pattern: str, endpoint: Endpoint, right: Right, *, basic: bool = False
    ) -> None:
        self.methods = set(methods.split())
        self.allowed = self.methods
        self.pattern = pattern
        self.weightvault_right = right
        self._basic = basic
        self.find_elsewhere: FindElsewhere = lambda _request, _place: None
        self._parts = pattern.strip("/").split("/")
        self._endpoint = endpoint

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Says whether a request is for this route."""
        if scope["type"] != "http":
            return Match.NONE, {}
        params = _match(self._parts, _parts_of(scope))
        if params is None:
            return Match.NONE, {}
        known = scope["method"] in self.methods
        found = {"path_params": params, "endpoint": self._endpoint}
        return (Match.FULL if known else Match.PARTIAL), found

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        """These routes have no names."""
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, with the hub's own errors."""
        if self._basic:
            scope[BASIC_ALLOWED] = True
        request = Request(scope, receive, send)
        try:
            if scope["method"] not in self.methods:
                message = f"{scope['method']} is not for this address"
                raise HubError(405, message, headers={"Allow": ", ".join(sorted(self.allowed))})
            response = await self._call(request)
            # What is streamed raises the error of its first piece before anything is sent.
            await response(scope, receive, send)
        except (VaultError, HubError) as error:
            found = None
            if isinstance(error, RepoNotFound) and "repo" in request.path_params:
                place = self._place(request.path_params)
                found = await run_in_threadpool(self.find_elsewhere, request, place)
            response = error_response(request, error) if found is None else found
            await response(scope, receive, send)

    def _place(self, params: dict[str, Any]) -> int:
        """Returns which part of an address is the namespace of the repo."""
        at = next(i for i, part in enumerate(self._parts) if part in _REPOS)
        return at + (self._parts[at] != _REPOS[0] and params["kind"] != MODELS)

    async def _call(self, request: Request) -> Response:
        if inspect.iscoroutinefunction(self.weightvault_right):
            await self.weightvault_right(request)
        else:
            await run_in_threadpool(self.weightvault_right, request)
        if inspect.iscoroutinefunction(self._endpoint):
            return await self._endpoint(request)
        return await run_in_threadpool(self._endpoint, request)


def _parts_of(scope: Scope) -> list[str]:
    found = scope.get(_PARTS)
    if found is None:
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        path = raw.partition(b"?")[0].decode("ascii", "replace")
        found = scope[_PARTS] = [unquote(part) for part in path.removeprefix("/").split("/")]
    return found


def _match(pattern: list[str], parts: list[str]) -> dict[str, str] | None:
    params: dict[str, str] = {}
    at = 0
    for wanted in pattern:
        if wanted in _REPOS:
            taken = _take_repo(wanted, parts[at:], params)
            if not taken:
                return None
            at += taken
        elif wanted.endswith("*}"):
            params[wanted[1:-2]] = "/".join(parts[at:])
            return params if all(parts[at:]) and parts[at:] else None
        elif wanted == "{rev}" and _is_pull_request(parts[at : at + 3]):
            params["rev"] = "/".join(parts[at : at + 3])
            at += 3
        elif at >= len(parts) or not _takes(wanted, parts[at], params):
            return None
        else:
            at += 1
    return params if at == len(parts) else None


def _is_pull_request(parts: list[str]) -> bool:
    """Whether these parts are the branch of a pull request, whose slashes some clients leave."""
    return len(parts) == 3 and parts[:2] == ["refs", "pr"] and parts[2].isdecimal()


def _takes(wanted: str, part: str, params: dict[str, str]) -> bool:
    if not wanted.startswith("{"):
        return wanted == part
    if not part or (wanted == "{kind}" and part not in _KINDS):
        return False
    params[wanted[1:-1]] = part
    return True


def _take_repo(wanted: str, parts: list[str], params: dict[str, str]) -> int:
    """Reads a repo's name from the parts and returns how many it took, 0 if there is none."""
    kind = params.get("kind", MODELS)
    taken = 0
    if wanted != "{repo}" and parts[:1] and parts[0] in KINDS:
        kind, taken = parts[0], 1
    named = parts[taken : taken + 2]
    # A slash that was percent-encoded is none between namespace and name.
    if len(named) < 2 or not all(named) or any("/" in part for part in named):
        return 0
    namespace, name = named
    if wanted == "{git}":
        if not name.endswith(".git"):
            return 0
        name = name.removesuffix(".git")
    params["kind"] = kind
    params["repo"] = str(RepoName(kind, namespace, name))
    return taken + 2
