"""A server below a path of a reverse proxy: `https://host/models` for what is `/` here.

The proxy may take the path away or leave it. Inside, no address has it; what is sent out does:
`base_url` of a request, which Starlette makes of `app_root_path`, and what `under_root` returns.
"""

from __future__ import annotations

from contextvars import ContextVar

from starlette.types import ASGIApp, Receive, Scope, Send

_root: ContextVar[str] = ContextVar("root_path", default="")


class RootPath:
    """The layer around an application that takes `root_path`, as "/models", from addresses."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root = root_path
        self._raw = root_path.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application with what is left of a request's address."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        left = {"path": scope["path"], "raw_path": scope.get("raw_path")}
        if scope["path"] == self._root or scope["path"].startswith(self._root + "/"):
            left["path"] = scope["path"][len(self._root) :] or "/"
        if left["raw_path"] and left["raw_path"].startswith(self._raw):
            left["raw_path"] = left["raw_path"][len(self._raw) :] or b"/"
        token = _root.set(self._root)
        try:
            await self._app({**scope, **left, "app_root_path": self._root}, receive, send)
        finally:
            _root.reset(token)


def root_path() -> str:
    """Returns what the addresses of the server begin with, as "/models"; "" for none."""
    return _root.get()


def under_root(path: str) -> str:
    """Returns the address, as clients have it, of a path of this server."""
    return _root.get() + path
