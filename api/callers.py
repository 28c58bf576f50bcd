"""Whom a request is counted for, where clients take turns."""

from __future__ import annotations

from starlette.types import Scope

from .connections import client_key


def client_of(scope: Scope) -> str:
    """Returns what tells clients apart: the token of a request, its address where it has none."""
    caller = scope.get("state", {}).get("caller")
    if caller is not None and caller.token is not None:
        return f"token {caller.token}"
    client = scope.get("client")
    return client_key(client[0]) if client else ""
