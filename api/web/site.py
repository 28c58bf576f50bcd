"""The pages as one router, which joins the application after all its other routes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.params import Depends
from starlette.staticfiles import StaticFiles

from . import front, repo

STATIC = Path(__file__).parent / "static"


def add_pages(app: FastAPI, *, dependencies: Sequence[Depends] = ()) -> None:
    """Adds the pages, behind `dependencies`; what the application answers already, it goes on
    answering."""
    app.mount("/-/static", StaticFiles(directory=STATIC), name="static")
    pages = APIRouter(dependencies=list(dependencies))
    pages.include_router(front.router)
    pages.include_router(repo.router)
    app.include_router(pages)
