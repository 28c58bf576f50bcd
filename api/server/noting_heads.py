"""Says in the store how far its journal goes, while a server is at work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.concurrency import run_in_threadpool

from .upkeep import FindVault

# What a rollback of the store may take unnoticed, where the catalogue is lost as well.
_SECONDS = 5.0


@asynccontextmanager
async def noting_heads(find_vault: FindVault) -> AsyncIterator[None]:
    """Within, the heads of a vault are noted every few seconds if there are new ones, and once more
    at the end."""
    task = asyncio.create_task(_note_repeatedly(find_vault))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await run_in_threadpool(find_vault().note_heads)


async def _note_repeatedly(find_vault: FindVault) -> None:
    while True:
        await asyncio.sleep(_SECONDS)
        await run_in_threadpool(find_vault().note_heads)
