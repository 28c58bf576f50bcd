"""Bills as tables for people and as CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..dedup.model.bills import MonthBill
from ..dedup.reports.bills import MICRO, price_bill, total_cost
from ..dedup.reports.prices import StorageClass
from .formatting import format_bytes, format_money, format_table

_BYTES = ("logical", "unique", "own", "share", "billed", "overhead", "charged")
_RAW = ("logical", "unique")


@dataclass(frozen=True, slots=True)
class PricedBill:
    """A bill with the prices that it is by, and the cost of each line and of all."""

    bill: MonthBill
    prices: StorageClass
    costs: tuple[float, ...]
    cost: float


def add_costs(bill: MonthBill, prices: StorageClass) -> PricedBill:
    """Prices a bill; the costs of the lines add up to the cost."""
    costs = tuple(cost / MICRO for cost in price_bill(bill, prices))
    return PricedBill(bill, prices, costs, total_cost(bill, prices) / MICRO)


def bill_json(found: PricedBill) -> dict[str, Any]:
    """Returns a bill as JSON's types; what may not be told is left out."""
    bill = found.bill
    whole = bill.counted == "stored"
    lines = [
        {"name": line.name, **{name: getattr(line, name) for name in (_BYTES if whole else _RAW)}}
        | ({"cost": cost} if whole else {})
        for line, cost in zip(bill.lines, found.costs, strict=True)
    ]
    document = {name: value for name, value in asdict(bill).items() if name != "traffic"}
    money = {"cost": found.cost, "currency": found.prices.currency} if whole else {}
    return document | {"lines": lines, "class": found.prices.name, **money}


def bill_csv(bills: Sequence[PricedBill]) -> str:
    """Returns bills with one line for each month and name; columns never change."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("month", "name", *_BYTES, "cost", "currency", "recorded"))
    for found in bills:
        whole = found.bill.counted == "stored"
        for line, cost in zip(found.bill.lines, found.costs, strict=True):
            sizes = [getattr(line, n) if whole or n in _RAW else "" for n in _BYTES]
            money = (f"{cost:.6f}", found.prices.currency) if whole else ("", "")
            writer.writerow(
                (found.bill.month, _plain(line.name), *sizes, *money, int(found.bill.recorded))
            )
    return out.getvalue().rstrip("\n")


def bill_table(found: PricedBill) -> str:
    """Returns a bill as text."""
    bill = found.bill
    names = _BYTES if bill.counted == "stored" else _RAW
    head = (bill.month, *names, *(("cost",) if bill.counted == "stored" else ()))
    rows = [head]
    for line, cost in zip(bill.lines, found.costs, strict=True):
        sizes = (format_bytes(getattr(line, name)) for name in names)
        money = (format_money(cost),) if bill.counted == "stored" else ()
        rows.append((line.name, *sizes, *money))
    if bill.counted == "raw":
        return f"{format_table(rows)}\n\nframes and money are not told to this token"
    prices = found.prices
    note = "" if bill.recorded else "\nworked out from what is stored today"
    return (
        f"{format_table(rows)}\n\nstored {format_bytes(bill.stored)}, cost "
        f"{format_money(found.cost)} {prices.currency} by {prices.title} ({prices.date}){note}"
    )


def _plain(name: str) -> str:
    """A name as no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name
