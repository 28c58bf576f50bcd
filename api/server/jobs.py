"""Does the long work that operators ask for: in a thread of its own, after everything else.

A request cannot take as long as a vault is large. So it only puts a job in the catalogue, which all
servers of a vault share; one of them does it, notes how far it is, and puts down what came of it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from ...dedup.errors import VaultError
from ...dedup.local_vault import LocalVault
from ...dedup.maintenance.background_thread import BackgroundThread
from ...dedup.progress import Progress
from ...store.cancel import Cancelled, CancelToken, cancelled_by
from ...store.catalogue.queues.jobs import (
    JobRow,
    State,
    claim_job,
    end_job,
    return_job,
    tell_job,
)
from ..errors import error_body
from ..requests.public_errors import public_error
from ..v1.job_schemas import OptimisedSchema
from ..v1.report_schemas import ComparisonSchema
from .upkeep import FindVault

# A server that is gone leaves its job to others after this; it is renewed with every sign of
# progress, of which there is one for each file or family.
LEASE_SECONDS = 300.0
_TOLD_SECONDS = 0.5

_log = logging.getLogger("weightvault.api")


def _optimise(vault: LocalVault, asked: dict[str, Any], progress: Progress) -> BaseModel:
    # Jobs that an older version took have no bound.
    reads = asked.get("max_reads")
    done = vault.optimise_all(dry_run=asked["dry_run"], reads=reads, progress=progress)
    return OptimisedSchema.model_validate(done)


def _compare(vault: LocalVault, asked: dict[str, Any], progress: Progress) -> BaseModel:
    return ComparisonSchema.model_validate(vault.compare(asked["share"], asked["seed"], progress))


_WORK: dict[str, Callable[[LocalVault, dict[str, Any], Progress], BaseModel]] = {
    "optimise": _optimise,
    "comparison": _compare,
}


class JobRunner(BackgroundThread):
    """A thread that does one job after the other for the vault that is found then. A job that is
    under way when it stops is begun again by the next server."""

    def __init__(self, find_vault: FindVault, *, within: CancelToken | None = None) -> None:
        super().__init__("jobs", "could not do a job", within)
        self._find_vault = find_vault

    def _work(self) -> bool:
        """See BackgroundThread."""
        vault = self._find_vault()
        now = time.time()
        job = claim_job(vault.catalogue, now, now + LEASE_SECONDS)
        if job is None:
            return False
        noted = _Noted(vault, job, CancelToken(self._token))
        try:
            ended = self._do(vault, noted)
        except Cancelled:
            ended = None
        # Also where the thread is to end: this much is still to be told.
        with cancelled_by(CancelToken()):
            if ended is not None:
                noted.note()
                end_job(vault.catalogue, noted.job, *ended)
            elif self._token.cancelled:
                return_job(vault.catalogue, noted.job)
        return True

    def _do(self, vault: LocalVault, noted: _Noted) -> tuple[State, str]:
        """Returns how a job ended, and what came of it as JSON: its result, or an error body."""
        job = noted.job
        try:
            with cancelled_by(noted.token):
                found = _WORK[job.kind](vault, json.loads(job.asked), noted)
            return "done", found.model_dump_json()
        except VaultError as failure:
            _log.error("%s: %s: %s", job.kind, failure.code, failure.message)
            error = public_error(failure, vault)
        except Exception:
            _log.exception("%s failed", job.kind)
            error = VaultError("the server failed unexpectedly", "the server's log has the details")
        return "failed", json.dumps(error_body(error.code, error.message, error.hint))


class _Noted(Progress):
    """Writes down now and then how far a job is, and ends it once nobody wants it any more."""

    def __init__(self, vault: LocalVault, job: JobRow, token: CancelToken) -> None:
        self.job = job
        self.token = token
        self._catalogue = vault.catalogue
        self._told = 0.0
        self._last: dict[str, Any] = {}

    def begin(self, task: str, total: int | None, unit: str | None = None) -> None:
        """See Progress.begin."""
        self._last = {"task": task, "done": 0, "total": total, "unit": unit}
        self.note()

    def advance(self, count: int) -> None:
        """See Progress.advance."""
        super().advance(count)
        self._last["done"] += count
        if time.monotonic() - self._told >= _TOLD_SECONDS:
            self.note()

    def note(self) -> None:
        """Writes down how far the job is."""
        self._told = time.monotonic()
        until = time.time() + LEASE_SECONDS
        progress = json.dumps(self._last) if self._last else None
        try:
            wanted = tell_job(self._catalogue, self.job, progress, until)
        except VaultError as error:
            # Somebody writes for long; the lease has time.
            _log.warning("cannot note how far a job is: %s", error.message)
            return
        if wanted:
            self.job = replace(self.job, until=until)
        else:
            self.token.cancel()
