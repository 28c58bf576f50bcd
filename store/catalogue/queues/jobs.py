"""Long work that operators asked a server for: what waits, who is at it, how far it is, and what
came of it (api/server/jobs.py).

One of each kind at a time. Whoever is at a job holds a lease and renews it; one whose lease has
ended, as its process has, is begun again by the next who looks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import delete, select, update

from ..tables.database import Database
from ..tables.job_schema import jobs

State = Literal["waiting", "running", "done", "failed", "cancelled"]

# What has ended is kept so long, for who asks late what came of it.
KEPT_SECONDS = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job: what was `asked`, how far it is and its outcome, as JSON; when it was `created`, and
    `until` when somebody is at it, both in Unix seconds. `slot` is its kind until it has ended."""

    id: str
    kind: str
    asked: str
    created: float
    slot: str | None
    state: State = "waiting"
    until: float = 0.0
    progress: str | None = None
    outcome: str | None = None


def add_job(catalogue: Database, job: JobRow) -> JobRow:
    """Adds a job unless one of its kind has not ended; returns the one that is there then."""
    with catalogue.writing() as connection:
        ended = jobs.c.slot.is_(None) & (jobs.c.created < job.created - KEPT_SECONDS)
        connection.execute(delete(jobs).where(ended))
        catalogue.add_once(connection, jobs, [asdict(job)])
        row = connection.execute(select(jobs).where(jobs.c.slot == job.slot)).one()
        return _to_row(row)


def claim_job(catalogue: Database, now: float, until: float) -> JobRow | None:
    """Takes the job that nobody is at and that has waited longest, until a moment (Unix seconds,
    both)."""
    free = jobs.c.slot.is_not(None) & (jobs.c.until < now)
    with catalogue.reading() as connection:
        # Most of the time there is none: no transaction that writes.
        if connection.scalar(select(jobs.c.id).where(free).limit(1)) is None:
            return None
    with catalogue.writing() as connection:
        oldest = select(jobs.c.id).where(free).order_by(jobs.c.created).limit(1).scalar_subquery()
        mine = update(jobs).where(free, jobs.c.id == oldest)
        row = connection.execute(
            mine.values(state="running", until=until).returning(*jobs.c)
        ).one_or_none()
        return None if row is None else _to_row(row)


def tell_job(catalogue: Database, job: JobRow, progress: str | None, until: float) -> bool:
    """Records how far a claimed job is, and holds it until a moment (Unix seconds). Says whether it
    is still wanted, and still the caller's: `job` is the row as claimed or told before."""
    return _change(catalogue, job, progress=progress, until=until)


def end_job(catalogue: Database, job: JobRow, state: State, outcome: str) -> bool:
    """Records what came of a claimed job; says whether it was still wanted."""
    return _change(catalogue, job, state=state, outcome=outcome, slot=None, until=0.0)


def return_job(catalogue: Database, job: JobRow) -> bool:
    """Gives a claimed job back, to be begun again by whoever comes next."""
    return _change(catalogue, job, state="waiting", until=0.0)


def cancel_job(catalogue: Database, job_id: str) -> bool:
    """Ends a job, whoever is at it; says whether there was one that had not ended."""
    mine = update(jobs).where(jobs.c.id == job_id, jobs.c.slot.is_not(None))
    with catalogue.writing() as connection:
        return connection.execute(mine.values(state="cancelled", slot=None)).rowcount > 0


def find_job(catalogue: Database, job_id: str) -> JobRow | None:
    """Returns the job of that id."""
    with catalogue.reading() as connection:
        row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    return None if row is None else _to_row(row)


def list_jobs(catalogue: Database, limit: int) -> list[JobRow]:
    """Returns the latest jobs, latest first."""
    query = select(jobs).order_by(jobs.c.created.desc(), jobs.c.id).limit(limit)
    with catalogue.reading() as connection:
        return [_to_row(row) for row in connection.execute(query)]


def _change(catalogue: Database, job: JobRow, **values: object) -> bool:
    mine = update(jobs).where(
        jobs.c.id == job.id, jobs.c.slot.is_not(None), jobs.c.until == job.until
    )
    with catalogue.writing() as connection:
        return connection.execute(mine.values(**values)).rowcount > 0


def _to_row(row: object) -> JobRow:
    return JobRow(**{name: getattr(row, name) for name in JobRow.__slots__})
