"""Which rights a request needs: declared on each route, never found in its address.

A *right* is a function of the request that raises unless its caller may do what the route is for.
Every route names one, where it is declared; an application with a route that names none is not
made (`require_rights`). So that no route can forget it, rights also refuse what the page of
another site makes a browser send (origins.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import wraps
from typing import Any, NoReturn

from anyio import to_thread
from fastapi import Depends, FastAPI, Request
from starlette.requests import HTTPConnection

from ...dedup.errors import AccessRefused, InvalidName, RepoNotFound
from ...dedup.transfer.uploads import Sees
from ...store.catalogue.files.mirrors import find_mirror, guarded_repos
from ...store.catalogue.refs import is_public, public_repos
from ...store.repo_names import MODELS, RepoName
from ..errors import Unauthorized
from .audit import note_denied
from .callers import INVALID_CREDENTIALS, Caller, caller_of
from .origins import refuse_foreign_pages

Right = Callable[[Request], Any]

_HINT = "`weightvault token create` makes one"
_RIGHTS: set[Any] = set()
_DECLARED = "weightvault_right"


def right(check: Callable[[Request], object]) -> Right:
    """Makes a right of a function that raises where it does not hold."""

    def declared(request: Request) -> None:
        _refuse_nul(request)
        refuse_foreign_pages(request)
        check(request)

    declared.__name__, declared.__doc__ = check.__name__, check.__doc__
    _RIGHTS.add(declared)
    return declared


def declare_right(check: Right) -> Right:
    """Makes a right of an asynchronous function that raises where it does not hold."""

    @wraps(check)
    async def declared(request: Request) -> None:
        _refuse_nul(request)
        refuse_foreign_pages(request)
        await check(request)

    _RIGHTS.add(declared)
    return declared


def _refuse_nul(request: HTTPConnection) -> None:
    """Raises InvalidName for an address with NUL, which no name has and no database keeps."""
    if "\0" in request.scope["path"] or b"%00" in request.scope["query_string"]:
        raise InvalidName("NUL is not allowed in an address")


# What rights look at: the repo that a path names, or that an endpoint read from a body


def repo_in_path(request: HTTPConnection) -> str:
    """Returns the repo that a request's path names."""
    params = request.path_params
    if "repo" in params:
        return params["repo"]
    return str(RepoName(params.get("kind", MODELS), params["namespace"], params["name"]))


def require_read(request: HTTPConnection, repo: str) -> Caller:
    """Returns the caller if they may read a repo. Raises RepoNotFound, as if there were none."""
    caller = caller_of(request)
    return require_read_as(request, caller, repo)


def readable_name(request: HTTPConnection, repo: str) -> str | None:
    """Returns the name of a repo if the caller may read it, or could if it were there."""
    try:
        require_read(request, repo)
    except RepoNotFound:
        return None
    return repo


def require_read_as(request: HTTPConnection, caller: Caller, repo: str) -> Caller:
    """As `require_read`, of a caller that a grant stands for."""
    _require_let(request, caller, repo)
    if not caller.reads_all:
        public = is_public(request.app.state.vault.catalogue, repo)
        if not caller.may_read(repo, public):
            note_denied(request)
            raise RepoNotFound(f"there is no repo {repo}", "it may need a token, or another one")
    return caller


def _require_let(request: HTTPConnection, caller: Caller, repo: str) -> None:
    """Raises RepoNotFound for a copy of a repo that its upstream does not let a caller read."""
    row = find_mirror(request.app.state.vault.catalogue, repo)
    if row is not None and row.guarded and not request.app.state.lets_read(request, caller, repo):
        note_denied(request)
        raise RepoNotFound(f"there is no repo {repo}", "it may need a token, or another one")


def _refuse_copy(request: HTTPConnection, repo: str) -> None:
    """Raises AccessRefused for a change to a copy; it may be deleted."""
    row = find_mirror(request.app.state.vault.catalogue, repo)
    if row is not None and request.scope["method"] != "DELETE":
        raise AccessRefused(
            f"{repo} is a copy of a repo of another hub, and changes with that",
            "copy it to a name of your own with `weightvault cp`",
        )


def require_write(request: HTTPConnection, repo: str) -> Caller:
    """Returns the caller if they may change a repo. Raises RepoNotFound where they may not even
    read it, Unauthorized without a token, else AccessRefused."""
    return require_write_as(request, caller_of(request), repo)


def require_write_as(request: HTTPConnection, caller: Caller, repo: str) -> Caller:
    """As `require_write`, of a caller that a grant stands for."""
    if caller.may_write(repo):
        _refuse_copy(request, repo)
        return caller
    if caller.role is None:
        raise Unauthorized(f"changing {repo} needs a token", _HINT)
    if caller.knows(repo):
        raise AccessRefused(f"this token may read {repo}, not change it", "use one that may write")
    require_read_as(request, caller, repo)
    raise AccessRefused(f"this token is for repos of {_named(caller)}, not for {repo}")


def require_create(request: HTTPConnection, repo: str) -> Caller:
    """Returns the caller if they may make a repo of that name, whether it is there or not. Raises
    Unauthorized, AccessRefused."""
    caller = caller_of(request)
    if not caller.may_write(repo):
        _refuse(caller, f"making {repo}")
    _refuse_copy(request, repo)
    return caller


def require_commit(request: HTTPConnection, repo: str) -> Caller:
    """Returns the caller if they may commit to a repo of that name, whether it is there or not, of
    which a refusal says nothing. Raises Unauthorized, AccessRefused."""
    caller = caller_of(request)
    if not caller.may_write(repo):
        _refuse_commit(caller, repo)
    _refuse_copy(request, repo)
    return caller


def _refuse_commit(caller: Caller, repo: str) -> NoReturn:
    if caller.writes_somewhere and not caller.knows(repo):
        own = replace(RepoName.of(repo), namespace=caller.namespaces[0])
        raise AccessRefused(
            f"this token is for repos of {_named(caller)}, not for {repo}",
            f"push to {own}, or with another token",
        )
    _refuse(caller, f"pushing to {repo}")


def repos_seen(request: HTTPConnection) -> Sees:
    """Returns the condition that a repo may be read by whoever sent a request; of copies, only
    those that are for everybody at their upstream."""
    caller, catalogue = caller_of(request), request.app.state.vault.catalogue
    public: set[str] = set()
    if not caller.reads_all and caller.reads == "public":
        public = public_repos(catalogue)
    guarded = guarded_repos(catalogue)
    return lambda repo: repo not in guarded and caller.may_read(repo, repo in public)


# The rights


async def public_endpoint(request: Request) -> None:
    """Anybody may, whatever they show: nothing depends on who asks. Holds up no thread."""
    _refuse_nul(request)
    refuse_foreign_pages(request)


_RIGHTS.add(public_endpoint)


@right
def sees_own(request: Request) -> None:
    """Anybody may whose token, if there is one, is valid; the answer holds what they may read."""
    caller_of(request)


@right
def has_token(request: Request) -> None:
    """Whoever holds a token may."""
    if caller_of(request).role is None:
        raise Unauthorized(INVALID_CREDENTIALS, _HINT)


@right
def may_read_repo(request: Request) -> None:
    """Who may read the repo of the path."""
    require_read(request, repo_in_path(request))


@right
def may_write_repo(request: Request) -> None:
    """Who may change the repo of the path."""
    require_write(request, repo_in_path(request))


@right
def may_commit(request: Request) -> None:
    """Who may commit to the repo of the path, which need not be there."""
    require_commit(request, repo_in_path(request))


@right
def pushes(request: Request) -> None:
    """Who may write in some namespace. Which repo it is for, if any, stands in the body: the
    endpoint asks `require_write` or `require_create`."""
    caller = caller_of(request)
    if not caller.writes_somewhere:
        _refuse(caller, "changing the vault")


@right
def reads_everything(request: Request) -> None:
    """Who may read every repo: the answer tells of all."""
    caller = caller_of(request)
    if not caller.reads_all:
        _refuse(caller, "this tells of all repos")


async def monitors(request: Request) -> None:
    """As `reads_everything`, for a server that is busy: holds up none of the threads that others
    wait for."""
    await to_thread.run_sync(reads_everything, request, limiter=request.app.state.probes)


_RIGHTS.add(monitors)


@right
def writes_everything(request: Request) -> None:
    """Who may change every repo, or let the server work on all of them for long."""
    caller = caller_of(request)
    if not caller.writes_all:
        _refuse(caller, "work on the whole vault")


def _refuse(caller: Caller, what: str) -> NoReturn:
    if caller.role is None:
        raise Unauthorized(f"{what} needs a token", _HINT)
    raise AccessRefused(
        f"{what}: this token is not for that", "use one of a higher role, or of that namespace"
    )


def _named(caller: Caller) -> str:
    return " and ".join(caller.namespaces)


# Declaring them


def needs(declared: Right) -> list[Any]:
    """Returns a route's or a router's `dependencies` with a right."""
    return [Depends(declared)]


def declare_public(route: Any) -> None:
    """Says that a route that takes no dependencies, such as a folder of static files, is for
    anybody."""
    setattr(route, _DECLARED, public_endpoint)


def rights_of(route: Any) -> list[Right]:
    """Returns the rights that a route declares."""
    named = [dependency.dependency for dependency in getattr(route, "dependencies", ())]
    declared = [getattr(route, _DECLARED, None), *named]
    return [found for found in declared if found is not None and found in _RIGHTS]


def routes_of(app: FastAPI) -> Iterator[Any]:
    """Yields every route of an application, those of routers that were included, too."""
    yield from _flatten(app.routes)


def _flatten(routes: Any) -> Iterator[Any]:
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from _flatten(included.routes)


def require_rights(app: FastAPI) -> None:
    """Raises RuntimeError where a route declares no right: it would be open to everybody."""
    bare = [route for route in routes_of(app) if not rights_of(route)]
    if bare:
        raise RuntimeError(f"no right is declared on {bare}")
