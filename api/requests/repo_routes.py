"""Routes of one repo: `/acme/x/...`, and `/datasets/acme/x/...` for repos that hold no model.

What begins the names of those is no namespace, so that an address is one or the other, whatever
repos are called.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partialmethod
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.convertors import Convertor, register_url_convertor

from ...store.repo_names import KINDS

OWNER = "{namespace:owner}"
"""Part of a path: any namespace."""

_KIND = "{kind:repo_kind}"

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])


class RepoRoutes:
    """Routers that have every endpoint at both addresses below `prefix`; it is described once.
    `owner` is the part of the path that is the namespace where no kind is in front; `options` are
    those of APIRouter."""

    def __init__(self, prefix: str, owner: str = OWNER, **options: Any) -> None:
        plain = APIRouter(prefix=f"{prefix}/{owner}/{{name}}", **options)
        options["include_in_schema"] = False
        kinds = APIRouter(prefix=f"{prefix}/{_KIND}/{OWNER}/{{name}}", **options)
        self.routers = (plain, kinds)

    def _declare(self, method: str, path: str, **options: Any) -> Callable[[_Endpoint], _Endpoint]:
        def declare(endpoint: _Endpoint) -> _Endpoint:
            for router in self.routers:
                router.add_api_route(path, endpoint, methods=[method], **options)
            return endpoint

        return declare

    get = partialmethod(_declare, "GET")
    head = partialmethod(_declare, "HEAD")
    post = partialmethod(_declare, "POST")
    put = partialmethod(_declare, "PUT")
    delete = partialmethod(_declare, "DELETE")


class _Kind(Convertor[str]):
    regex = "|".join(KINDS)

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Owner(_Kind):
    regex = rf"(?!(?:{'|'.join(KINDS)})/)[^/]+"


register_url_convertor("repo_kind", _Kind())
register_url_convertor("owner", _Owner())
