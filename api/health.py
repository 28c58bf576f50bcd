"""The endpoint for load balancers and people who ask whether the server can do its work."""

from __future__ import annotations

from fastapi import APIRouter, Response

from .. import __version__
from ..dedup.errors import VaultError
from .routes import VaultParam
from .schemas import HealthSchema

router = APIRouter(tags=["vault"])


@router.get(
    "/health",
    summary="Ask whether the server can do its work",
    responses={503: {"model": HealthSchema, "description": "Store or catalogue does not answer"}},
)
def health(vault: VaultParam, response: Response) -> HealthSchema:
    """Asks object store and catalogue for something small; 503 if either does not answer."""
    try:
        vault.check_health()
    except VaultError as error:
        response.status_code = 503
        return HealthSchema(status="failing", problem=error.message, version=__version__)
    return HealthSchema(status="ok", problem=None, version=__version__)
