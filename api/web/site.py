"""The pages as one router, which joins the application after all its other routes."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI
from starlette.staticfiles import StaticFiles

from . import front, repo, session

STATIC = Path(__file__).parent / "static"


def add_pages(app: FastAPI) -> None:
    """Adds the pages; what the application answers already, it goes on answering."""
    app.mount("/-/static", StaticFiles(directory=STATIC), name="static")
    pages = APIRouter(dependencies=[Depends(session.admit)])
    pages.include_router(front.router)
    pages.include_router(repo.router)
    app.include_router(session.router)
    app.include_router(pages)
