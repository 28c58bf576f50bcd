"""Says in the store how far its journal goes, while a server is at work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

# What a rollback of the store may take unnoticed, where the catalogue is lost as well.
_SECONDS = 5.0


@asynccontextmanager
async def noting_heads(app: FastAPI) -> AsyncIterator[None]:
    """Within, the heads of the application's vault are noted every few seconds if there are new
    ones, and once more at the end."""
    task = asyncio.create_task(_note_repeatedly(app))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await run_in_threadpool(app.state.vault.note_heads)


async def _note_repeatedly(app: FastAPI) -> None:
    while True:
        await asyncio.sleep(_SECONDS)
        await run_in_threadpool(app.state.vault.note_heads)
