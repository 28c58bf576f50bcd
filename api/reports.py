"""The endpoints that say where bytes go, and what a decision would change."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter
from fastapi import Query as Param

from ..dedup.reporting.model import Dimension, Query, to_json
from .report_schemas import ReportSchema
from .routes import VaultParam
from .schemas import ErrorSchema

router = APIRouter(
    prefix="/v1",
    tags=["reports"],
    responses={"default": {"model": ErrorSchema, "description": "What failed"}},
)


@router.get("/report", summary="Report where the bytes go")
def report(
    vault: VaultParam,
    by: Annotated[list[Dimension], Param(description="breakdowns")] = ["repo"],  # noqa: B006
    top: Annotated[int | None, Param(ge=1, description="largest rows only")] = None,
    since: Annotated[date | None, Param(description="day that growth begins with")] = None,
) -> ReportSchema:
    """Reports logical, unique and stored bytes, what each stage saved, who has which share, and
    how all of it grew."""
    found = vault.report(Query(tuple(by), top, since and since.isoformat()))
    return ReportSchema.model_validate(to_json(found))
