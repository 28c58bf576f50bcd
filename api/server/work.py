"""Runs what servers do in the background, and nothing else, until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import signal
from collections.abc import Callable
from contextlib import nullcontext

from ...dedup.local_vault import LocalVault
from ...dedup.maintenance.background_encode import BackgroundEncoder
from ...store.cancel import CancelToken
from .background import working
from .jobs import JobRunner
from .logs import configure
from .metrics import CodingMetrics, noting
from .noting_heads import noting_heads
from .stopping import Stopping

_log = logging.getLogger("weightvault.api")


def run(
    vault: LocalVault,
    announce: Callable[[], None],
    log_format: str = "plain",
    *,
    beside_workers: bool = False,
) -> None:
    """Works for `vault` until SIGINT or SIGTERM; calls `announce` once it does. Logs are in one of
    logs.FORMATS. `beside_workers`: what is coded counts in the metrics of the servers that were
    started with it."""
    logging.config.dictConfig(configure(log_format))
    asyncio.run(_work(vault, announce, beside_workers))


async def _work(vault: LocalVault, announce: Callable[[], None], beside_workers: bool) -> None:
    upkeep, told = CancelToken(), asyncio.Event()
    stopping = Stopping(CancelToken(), upkeep)

    def end() -> None:
        stopping.begin()
        told.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end)
    counted = noting(CodingMetrics(None).note) if beside_workers else nullcontext()
    encoder = BackgroundEncoder(vault, within=upkeep, watch=True)
    jobs = JobRunner(lambda: vault, within=upkeep)
    async with noting_heads(lambda: vault), counted, working(lambda: vault, encoder, jobs, upkeep):
        announce()
        await told.wait()
        _log.info("stopping")
