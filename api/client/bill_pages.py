"""A page of a bill as a server sends it (GET /v1/bills)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ...dedup.model.bills import BillLine, MonthBill
from ...dedup.model.report import Traffic

BILL_PAGE = 1000
"""How many lines a page has at most."""


@dataclass(frozen=True)
class _Line:
    name: str
    logical: int
    unique: int
    own: int | None = None
    share: int | None = None
    overhead: int | None = None


@dataclass(frozen=True)
class BillPage:
    """A month, what is stored in it as far as that may be told, and some of its lines."""

    month: str
    recorded: bool
    stored: int | None
    counted: Literal["stored", "raw"]
    lines: list[_Line]
    traffic: Traffic | None = None

    def to_lines(self, after: str) -> list[BillLine]:
        """Returns the lines behind a name; what is not told is 0."""
        return [
            BillLine(
                *(each.name, each.logical, each.unique),
                *(each.own or 0, each.share or 0, each.overhead or 0),
            )
            for each in self.lines
            if each.name > after
        ]

    def to_bill(self, lines: Sequence[BillLine]) -> MonthBill:
        """Returns the bill of all pages' lines; of who may not read all repos, theirs alone."""
        stored = sum(line.charged for line in lines) if self.stored is None else self.stored
        return MonthBill(
            self.month, stored, self.recorded, tuple(lines), self.traffic, self.counted
        )
