"""What a server does every quarter of an hour: it puts the vault's totals on record, so that every
day has some, and forgets commits by the rules of namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.concurrency import run_in_threadpool

from ...dedup.errors import VaultError
from ...dedup.local_vault import LocalVault
from ...dedup.maintenance.retention import apply_rules
from ...store.cancel import Cancelled

_log = logging.getLogger("weightvault.api")

FindVault = Callable[[], LocalVault]
"""Returns the vault that is served at the moment."""

# Whoever starts a server wants it to answer first.
FIRST_SECONDS = 60.0
EACH_SECONDS = 900.0


@asynccontextmanager
async def keeping_up(find_vault: FindVault) -> AsyncIterator[None]:
    """Within, a vault is kept as its operators asked."""
    task = asyncio.create_task(_work_for_ever(find_vault))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _work_for_ever(find_vault: FindVault) -> None:
    await asyncio.sleep(FIRST_SECONDS)
    while True:
        for work, failed in _WORK:
            await run_in_threadpool(_try, work, failed, find_vault())
        await asyncio.sleep(EACH_SECONDS)


def _try(work: Callable[[LocalVault], object], failed: str, vault: LocalVault) -> None:
    try:
        work(vault)
    except Cancelled:
        return
    except VaultError as error:
        _log.warning("%s: %s", failed, error.message)


_WORK: tuple[tuple[Callable[[LocalVault], object], str], ...] = (
    (apply_rules, "no commits are forgotten for now"),
    (LocalVault.record_totals, "the totals of today are not on record yet"),
)
