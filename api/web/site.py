"""The pages as one router, which joins the application after all its other routes."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from ..access import declare_public
from . import front, repo, sign_in

STATIC = Path(__file__).parent / "static"


def add_pages(app: FastAPI) -> None:
    """Adds the pages; what the application answers already, it goes on answering."""
    app.mount("/-/static", StaticFiles(directory=STATIC), name="static")
    declare_public(app.routes[-1])
    app.include_router(sign_in.router)
    app.include_router(front.router)
    for router in repo.of_repo.routers:
        app.include_router(router)
