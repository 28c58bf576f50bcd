"""Leads to repos by other names of theirs: those they had, or theirs in other capital letters.

What is answered depends on repos alone that the caller may read: neither on whether there is one of
the name that was asked for, nor on others that are called alike.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....store.catalogue.files.moved_repos import other_names
from ....store.repo_names import RepoName
from ...requests.access import readable_name
from ...requests.callers import caller_of
from ...requests.root_path import under_root
from ..state import hub_of

_GIT = ".git"


def find_elsewhere(request: Request, place: int) -> Response | None:
    """Returns the answer that leads to the repo of a request's path by another name, None where no
    repo that the caller may read has one; `place` is the part of the path with the namespace."""
    asked = request.path_params["repo"]
    catalogue = hub_of(request).vault.catalogue
    if catalogue.has_repo(asked) and readable_name(request, asked):
        # It is another repo that is not there.
        return None
    moved, alike = other_names(catalogue, asked, caller_of(request).scope)
    if moved is not None and readable_name(request, moved):
        return _lead(request, place, moved)
    seen = [name for name in alike if readable_name(request, name)]
    return _lead(request, place, seen[0]) if len(seen) == 1 else None


def _lead(request: Request, place: int, repo: str) -> Response:
    """Answers with the same address, but for the repo. Clients follow it only where it begins with
    the path; the method and the body stay."""
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    parts = raw.partition(b"?")[0].decode("ascii").removeprefix("/").split("/")
    named = RepoName.of(repo)
    ending = _GIT if parts[place + 1].endswith(_GIT) and "info" in parts[place + 2 :] else ""
    parts[place : place + 2] = named.namespace, named.name + ending
    query = request.scope["query_string"].decode("ascii", "replace")
    address = under_root("/" + "/".join(parts)) + (f"?{query}" if query else "")
    return JSONResponse({"url": address}, 307, headers={"Location": address})
