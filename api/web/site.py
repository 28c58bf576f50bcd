"""The pages as one router, which joins the application after all its other routes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from ..requests.access import declare_public
from . import front, reference, repo, sign_in, storage

STATIC = Path(__file__).parent / "static"


class _Static(StaticFiles):
    """Our own files, which are the same for everybody, and others with each version."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        """Returns the answer with one of them."""
        response = super().file_response(*args, **options)
        response.headers["Cache-Control"] = "public, max-age=3600"
        return response


def add_pages(app: FastAPI) -> None:
    """Adds the pages; what the application answers already, it goes on answering."""
    app.mount("/-/static", _Static(directory=STATIC), name="static")
    declare_public(app.routes[-1])
    app.include_router(sign_in.router)
    app.include_router(front.router)
    app.include_router(storage.router)
    app.include_router(reference.router)
    for router in repo.of_repo.routers:
        app.include_router(router)
