"""Puts the vault's totals on record while a server runs: every hour, so every day has one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from ...dedup.errors import VaultError
from ...dedup.local_vault import LocalVault
from ...store.cancel import Cancelled

_log = logging.getLogger("weightvault.api")

# Whoever starts a server wants it to answer first.
FIRST_SECONDS = 60.0
EACH_SECONDS = 900.0


@asynccontextmanager
async def recording(app: FastAPI) -> AsyncIterator[None]:
    """Within, the totals of the application's vault are put on record as they fall due."""
    task = asyncio.create_task(_record_for_ever(app))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _record_for_ever(app: FastAPI) -> None:
    await asyncio.sleep(FIRST_SECONDS)
    while True:
        await run_in_threadpool(_record, app.state.vault)
        await asyncio.sleep(EACH_SECONDS)


def _record(vault: LocalVault) -> None:
    try:
        vault.record_totals()
    except Cancelled:
        return
    except VaultError as error:
        _log.warning("the totals of today are not on record yet: %s", error.message)
