"""Makes out bills: what of the stored bytes is put down to whom, month by month."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.reports.bulk import Ledger, read_ledger
from ...store.catalogue.reports.statistics import DayRow, list_days
from ..errors import InvalidInput
from ..model.bills import VAULT, BillLine, MonthBill, split_evenly
from ..model.report import Day, Query, Row
from ..repository.repository import Repository
from .breakdown import Account
from .prices import StorageClass, bill_for, usage_of
from .report import report_vault

By = Literal["namespace", "repo"]
MICRO = 1_000_000
"""Money is split in millionths of its unit, so that the parts add up."""
_FORECAST_DAYS = 90
_LEAST_DAYS = 2


def month_of(seconds: float) -> str:
    """Returns the month (UTC) of a time, as `YYYY-MM`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m")


def check_month(month: str) -> str:
    """Raises InvalidInput unless a text is a month as `YYYY-MM`, not later than this one."""
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
        raise InvalidInput(f"{month!r} is no month", "write it as 2026-12")
    if month > month_of(time.time()):
        raise InvalidInput(f"{month} has not begun", "ask for this month or one before it")
    return month


def make_bill(vault: Repository, month: str | None = None, by: By = "namespace") -> MonthBill:
    """Returns the bill of a month, of this one unless told otherwise, by name. Raises
    InvalidInput."""
    now = month_of(time.time())
    if month is None or check_month(month) == now:
        report = report_vault(vault, Query((by,)))
        lines = _lines(report.breakdown(by).rows)
        bill = MonthBill(now, report.stored, True, lines, report.traffic)
    else:
        bill = _past_bill(vault.catalogue, month, by)
    return _with_overhead(bill)


def price_bill(bill: MonthBill, prices: StorageClass) -> list[int]:
    """Returns what each line costs, in millionths of the currency; they add up to the cost of the
    whole vault, `total_cost`."""
    total = total_cost(bill, prices)
    return split_evenly(total, [max(0, line.charged) for line in bill.lines])


def total_cost(bill: MonthBill, prices: StorageClass) -> int:
    """Returns what the vault costs in the month, in millionths of the currency."""
    return round(bill_for(prices, usage_of(bill, prices)).total * MICRO)


def forecast(days: Sequence[Day], ahead_days: int) -> int | None:
    """Returns how many bytes will be stored so many days after the last one, if the vault goes on
    growing as in the last 90 days: by the straight line that fits best. None where fewer than two
    days are on record."""
    known = [day for day in days if day.stored is not None][-_FORECAST_DAYS:]
    if len(known) < _LEAST_DAYS:
        return None
    ordinal = np.array([datetime.fromisoformat(day.day).toordinal() for day in known], float)
    stored = np.array([day.stored for day in known], float)
    recent = ordinal >= ordinal[-1] - _FORECAST_DAYS
    slope = float(np.polyfit(ordinal[recent] - ordinal[-1], stored[recent], 1)[0])
    return max(0, round(stored[-1] + slope * ahead_days))


def _lines(rows: Sequence[Row]) -> tuple[BillLine, ...]:
    found = [
        BillLine(row.name, row.logical or 0, row.unique, row.exclusive, row.attributed)
        for row in rows
    ]
    return tuple(sorted(found, key=lambda line: line.name))


def _with_overhead(bill: MonthBill) -> MonthBill:
    lines = bill.lines or (BillLine(VAULT, 0, 0, 0, 0),)
    beyond = bill.stored - sum(line.billed for line in lines)
    parts = split_evenly(beyond, [line.billed for line in lines])
    charged = (replace(line, overhead=part) for line, part in zip(lines, parts, strict=True))
    return replace(bill, lines=tuple(charged))


def _past_bill(catalogue: Catalogue, month: str, by: By) -> MonthBill:
    """The bill of a month that is over, by the commits of today that it had."""
    with catalogue.reading() as connection:
        ledger = _until(read_ledger(connection), month)
    lines = _lines(Account(ledger, {}).breakdown(Query((by,)), by).rows)
    last = _last_day(list_days(catalogue), month)
    frames = sum(line.billed for line in lines)
    return MonthBill(month, max(frames, last.stored) if last else frames, False, lines)


def _until(ledger: Ledger, month: str) -> Ledger:
    """Returns a ledger without the commits after a month, and without uploads."""
    stays = np.array([month_of(line.created) <= month for line in ledger.commits], np.bool_)
    place = np.cumsum(stays, dtype=np.int32) - 1
    kept = stays[ledger.commit]
    return replace(
        ledger,
        commits=[line for line, stay in zip(ledger.commits, stays, strict=True) if stay],
        commit=place[ledger.commit[kept]],
        chunk=ledger.chunk[kept],
        uses=ledger.uses[kept],
        loose=ledger.loose[:0],
    )


def _last_day(days: Sequence[DayRow], month: str) -> DayRow | None:
    return next((day for day in reversed(days) if day.day.startswith(month)), None)
