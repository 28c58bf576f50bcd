"""The endpoints of long work: asked for here, done in the background (server/jobs.py)."""

from __future__ import annotations

import json
import secrets
import time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from ...dedup.errors import Missing
from ...store.catalogue.queues.jobs import JobRow, add_job, cancel_job, find_job, list_jobs
from ...store.errors import Conflict
from ..requests.access import needs, writes_everything
from .documented import FAILURES
from .job_schemas import AskedJob, JobSchema, as_json
from .routes import VaultParam

router = APIRouter(
    prefix="/v1/jobs", tags=["jobs"], responses=FAILURES, dependencies=needs(writes_everything)
)

_MOST_LISTED = 100

JobParam = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="the id of a job")]


@router.post("", status_code=202, summary="Ask for long work")
def begin_job(request: Request, vault: VaultParam, asked: AskedJob) -> JobSchema:
    """Begins a job in the background. There is one of each kind at a time: the same one again is
    the one under way, another one is refused until it has ended or is cancelled."""
    wanted = json.dumps(as_json(asked), sort_keys=True)
    job = JobRow(secrets.token_hex(16), asked.kind, wanted, time.time(), slot=asked.kind)
    found = add_job(vault.catalogue, job)
    if found.asked != wanted:
        raise Conflict(
            f"another job is under way: {found.kind} with {found.asked}",
            f"wait until it has ended, or cancel it: DELETE /v1/jobs/{found.id}",
        )
    request.app.state.jobs.wake()
    return _describe(found)


@router.get("", summary="List long work")
def list_latest(vault: VaultParam) -> list[JobSchema]:
    """Lists the latest hundred jobs, latest first; those that ended are kept for a week."""
    return [_describe(job) for job in list_jobs(vault.catalogue, _MOST_LISTED)]


@router.get("/{job}", summary="Follow long work")
def follow_job(vault: VaultParam, job: JobParam) -> JobSchema:
    """Tells how far a job is, and in the end what came of it."""
    found = find_job(vault.catalogue, job)
    if found is None:
        raise _missing(job)
    return _describe(found)


@router.delete("/{job}", status_code=204, summary="Cancel long work")
def end_job(vault: VaultParam, job: JobParam) -> Response:
    """Ends a job at its next sign of progress; what it has done by then stays. One that has ended
    stays as it is."""
    if not cancel_job(vault.catalogue, job) and find_job(vault.catalogue, job) is None:
        raise _missing(job)
    return Response(status_code=204)


def _missing(job: str) -> Missing:
    return Missing(f"there is no job {job}", "GET /v1/jobs lists those of the last week")


def _describe(job: JobRow) -> JobSchema:
    outcome: dict[str, Any] = json.loads(job.outcome) if job.outcome else {}
    failed = job.state == "failed"
    return JobSchema.model_validate(
        {
            "id": job.id,
            "kind": job.kind,
            "state": job.state,
            "created": job.created,
            "asked": json.loads(job.asked),
            "progress": json.loads(job.progress) if job.progress else None,
            "result": None if failed or not outcome else outcome,
            "error": outcome if failed else None,
        }
    )
