"""What is done for a vault beside its requests: uploads are encoded, operators' jobs done, totals
put on record, commits forgotten by rules.

A server does it beside its requests, or leaves it to a process of its own, `weightvault work`. Any
number of processes may be at it: they share the queues.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.concurrency import run_in_threadpool

from ...dedup.maintenance.background_encode import BackgroundEncoder
from ...store.cancel import CancelToken, cancelled_by
from .jobs import JobRunner
from .upkeep import FindVault, keeping_up


@asynccontextmanager
async def working(
    find_vault: FindVault, encoder: BackgroundEncoder, jobs: JobRunner, within: CancelToken
) -> AsyncIterator[None]:
    """Within, all of it is done; it ends with the token `within`, and at the end."""
    with cancelled_by(within):
        encoder.start()
        jobs.start()
        async with keeping_up(find_vault):
            yield
            within.cancel()
    await run_in_threadpool(encoder.stop)
    await run_in_threadpool(jobs.stop)
