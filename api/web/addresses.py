"""The addresses of the pages, and how they are read.

Pages of a repo lie where hubs have them: `/{namespace}/{name}`, or
`/datasets/{namespace}/{name}`, then `tree`, `blob`, `tensors`, `commits` or `family`. A revision is
one part of the address, its slashes written %2F, so routes look at the address as it was sent: the
decoded one no longer tells. All other pages are below `/-/`, which no namespace can be called. What
is returned here begins with the server's root path (requests/root_path.py).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote, urlencode

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request

from ... import __version__
from ...store.repo_names import KINDS
from ..requests.root_path import under_root

# What else this server has at the top: no page of a repo is there, so that what is asked of an API
# in vain is told so by the API.
RESERVED = ("api", "docs", "health", "metrics", "openapi.json", "redoc", "v1", *KINDS)


SIGN_IN = "/-/sign-in"


class _Namespace(Convertor[str]):
    """A namespace of repos: one that no other part of the server has."""

    regex = rf"(?!(?:{'|'.join(RESERVED)})/)[A-Za-z0-9][A-Za-z0-9._-]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("namespace", _Namespace())


def split_address(request: Request) -> tuple[str, str]:
    """Returns revision and path of `/{namespace}/{name}/{page}/{revision}[/{path}]`, which may have
    a kind in front."""
    sent: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    parts = sent.decode("ascii", errors="replace").partition("?")[0].split("/")
    del parts[: 5 if "kind" in request.path_params else 4]
    return unquote(parts[0]) if parts else "", "/".join(unquote(p) for p in parts[1:]).rstrip("/")


def static_url(name: str) -> str:
    """Returns the address of a file of `static`; another one for every version."""
    return under_root(f"/-/static/{name}?v={__version__}")


def repo_url(repo: str, page: str = "", revision: str = "", path: str = "", /, **query: Any) -> str:
    """Returns the address of a page of a repo."""
    parts = [quote(repo)]
    if page:
        parts.append(page)
    if revision:
        parts.append(quote(revision, safe=""))
    if path:
        parts.append(quote(path))
    return under_root("/" + "/".join(parts) + _query(query))


def page_url(path: str, /, **query: Any) -> str:
    """Returns the address of a page that is no repo's, without the parameters that are empty."""
    return under_root(path + _query(query))


def sign_in_url(request: Request) -> str:
    """Returns the address of the form that takes a token and leads back to the page asked for."""
    query = f"?{request.url.query}" if request.url.query else ""
    return page_url(SIGN_IN, to=request.url.path + query)


def _query(values: dict[str, Any]) -> str:
    given = {name: value for name, value in values.items() if value not in (None, "")}
    return f"?{urlencode(given)}" if given else ""
