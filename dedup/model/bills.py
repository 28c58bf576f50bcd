"""What a month's bill is made of, by namespace or repo, in bytes. Words as in words.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .report import Traffic

VAULT = "(vault)"
"""Who pays for what is stored where nobody has a frame."""


@dataclass(frozen=True, slots=True)
class BillLine:
    """What is put down to a namespace or repo: bytes, `overhead` its part of what is stored beyond
    frames."""

    name: str
    logical: int
    unique: int
    own: int
    share: int
    overhead: int = 0

    @property
    def billed(self) -> int:
        """Its frames: own and share."""
        return self.own + self.share

    @property
    def charged(self) -> int:
        """All that it pays for; over a bill they add up to `stored`."""
        return self.billed + self.overhead


@dataclass(frozen=True, slots=True)
class MonthBill:
    """The bytes of a `month` (YYYY-MM, UTC), by name; `stored` is what the vault held at its end,
    or holds now. `recorded`: both are as they were then; else they are worked out from what is
    stored today, without what was deleted since. `traffic`: of the last 30 days, for this month.
    `counted`: with "raw" it is told to somebody who may know neither frames nor money: those are
    0."""

    month: str
    stored: int
    recorded: bool
    lines: tuple[BillLine, ...]
    traffic: Traffic | None = None
    counted: Literal["stored", "raw"] = "stored"

    @property
    def logical(self) -> int:
        """The files of all lines."""
        return sum(line.logical for line in self.lines)


def split_evenly(total: int, weights: Sequence[int]) -> list[int]:
    """Splits a whole number in proportion to weights of 0 or more, to the unit: what does not
    divide goes, one each, to the largest remainders, the first of equal ones first. Evenly where
    all are 0. `total` may be negative."""
    whole = sum(weights)
    if not weights:
        return []
    if not whole:
        weights, whole = [1] * len(weights), len(weights)
    parts = [total * weight // whole for weight in weights]
    rests = sorted(range(len(parts)), key=lambda i: (-(total * weights[i] % whole), i))
    for i in rests[: total - sum(parts)]:
        parts[i] += 1
    return parts
