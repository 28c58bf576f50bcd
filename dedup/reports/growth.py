"""How the vault grew: the days on record, and before those what today's commits tell."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime

import numpy as np

from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.reports.statistics import DayRow, last_day, record_day
from ..model.report import Day, Report
from .attribution import Integers, Positions, sum_by
from .breakdown import Account

# A report puts the day on record unless that was done since.
RECORD_SECONDS = 3600.0


def day_of(seconds: float) -> str:
    """Returns the day (UTC) of a time, as `YYYY-MM-DD`."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def join_days(account: Account, recorded: list[DayRow], today: Day, since: str | None) -> list[Day]:
    """Returns the days up to today, oldest first, without those before `since`."""
    known = [_recorded(row) for row in recorded if row.day < today.day]
    first = known[0].day if known else today.day
    days = [day for day in _derive_days(account) if day.day < first] + [*known, today]
    return [day for day in days if since is None or day.day >= since]


def today_of(report: Report) -> Day:
    """Returns the day of a report, as the report has it."""
    sums = (report.repos, report.commits, report.logical, report.unique, report.frames)
    return Day(day_of(report.at), *sums, stored=report.stored, recorded=True)


def wants_record(catalogue: Catalogue, now: float | None = None) -> bool:
    """Says whether the day is not on record yet, or not for an hour."""
    last, at = last_day(catalogue), time.time() if now is None else now
    return last is None or last.day != day_of(at) or at - last.at >= RECORD_SECONDS


def record(catalogue: Catalogue, report: Report) -> None:
    """Puts the day of a report on record."""
    today = today_of(report)
    sums = (today.repos, today.commits, today.logical, today.unique, today.frames)
    record_day(catalogue, DayRow(today.day, report.at, *sums, report.stored))


def _recorded(row: DayRow) -> Day:
    sums = (row.repos, row.commits, row.logical, row.unique, row.frames)
    return Day(row.day, *sums, stored=row.stored, recorded=True)


def _derive_days(account: Account) -> Iterator[Day]:
    """Days on which something that is still there was committed, with the sums up to then."""
    ledger = account.ledger
    commits = ledger.commits
    if not commits:
        return
    ordinal = np.array([_ordinal(commit.created) for commit in commits])
    days, of_commit = np.unique(ordinal, return_inverse=True)
    first_of_repo: dict[str, int] = {}
    for commit, day in zip(commits, of_commit.tolist(), strict=True):
        first_of_repo[commit.repo] = min(day, first_of_repo.get(commit.repo, day))
    used, reached = _first_days(account, of_commit[ledger.commit], ledger.chunk)
    columns = (
        np.bincount(list(first_of_repo.values()), minlength=len(days)),
        np.bincount(of_commit, minlength=len(days)),
        sum_by(of_commit, np.array([commit.logical for commit in commits]), len(days)),
        _sum_firsts(used, ledger.chunks.raw_bytes, len(days)),
        _sum_firsts(reached, ledger.chunks.frame_bytes, len(days)),
    )
    sums = (np.cumsum(column).tolist() for column in columns)
    for day, *numbers in zip(days.tolist(), *sums, strict=True):
        yield Day(date.fromordinal(day).isoformat(), *numbers, stored=None, recorded=False)


def _first_days(account: Account, days: Integers, chunk: Positions) -> tuple[Integers, Integers]:
    """The first day on which each chunk was used, and reached; beyond all days for never."""
    never = np.iinfo(np.int64).max
    needs = account.ledger.chunks.needs
    used = np.full(len(account.ledger.chunks), never)
    np.minimum.at(used, chunk, days)
    reached = used.copy()
    np.minimum.at(reached, needs.input, used[needs.dependent])
    return used, reached


def _sum_firsts(first: Integers, sizes: Integers, count: int) -> Integers:
    ever = first < count
    return sum_by(first[ever], sizes[ever], count)


def _ordinal(seconds: float) -> int:
    return datetime.fromtimestamp(seconds, UTC).date().toordinal()
