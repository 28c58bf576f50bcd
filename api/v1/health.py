"""The endpoint for load balancers and people who ask whether the server can do its work.

It answers at once whatever else the server does: it has a thread of its own, and all who ask while
that is at work share one answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request, Response
from starlette.datastructures import State

from ... import __version__
from ...dedup.errors import VaultError
from ...dedup.local_vault import LocalVault
from ..requests.access import needs, public_endpoint
from ..requests.public_errors import public_error
from .schemas import HealthSchema

# A store that takes longer does not answer, as far as a load balancer is concerned.
_ANSWER_SECONDS = 5.0

router = APIRouter(tags=["vault"], dependencies=needs(public_endpoint))


@dataclass(slots=True)
class HealthProbe:
    """The question that store and catalogue are asked at this moment; for one event loop."""

    _thread: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))
    _asking: asyncio.Task[VaultError | None] | None = None
    _asked: LocalVault | None = None

    async def find_problem(self, state: State) -> str | None:
        """Returns what is wrong with the vault of an application, as anybody may know it; None if
        nothing is. `state` is the application's."""
        vault: LocalVault = state.vault
        if self._asking is None or self._asking.done() or self._asked is not vault:
            self._asked = vault
            self._asking = asyncio.ensure_future(self._ask(vault))
        try:
            # Whoever stops waiting does not stop the others.
            found = await asyncio.wait_for(asyncio.shield(self._asking), _ANSWER_SECONDS)
        except TimeoutError:
            return f"the store and the catalogue did not answer within {_ANSWER_SECONDS:.0f} s"
        return None if found is None else public_error(found, state.vault).message

    async def _ask(self, vault: LocalVault) -> VaultError | None:
        try:
            await to_thread.run_sync(vault.check_health, limiter=self._thread)
        except VaultError as error:
            return error
        return None


@router.get(
    "/health",
    summary="Ask whether the server can do its work",
    responses={503: {"model": HealthSchema, "description": "Store or catalogue does not answer"}},
)
async def health(request: Request, response: Response) -> HealthSchema:
    """Asks object store and catalogue for something small; 503 if either does not answer."""
    state = request.app.state
    problem = await state.health.find_problem(state)
    if problem is not None:
        response.status_code = 503
    status = "ok" if problem is None else "failing"
    return HealthSchema(status=status, problem=problem, version=__version__)
