"""Numbers, sizes and tables as people read them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .terminal import show

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def format_bytes(count: float) -> str:
    """Returns a number of bytes for people, in binary units: `1.5 MiB`."""
    size = float(count)
    for unit in _UNITS[:-1]:
        # What would be printed as 1024.0 belongs to the next unit.
        if abs(size) < 1023.95:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {_UNITS[-1]}"


def format_rate(count: float, seconds: float) -> str:
    """Returns bytes per second for people."""
    return f"{format_bytes(count / max(seconds, 1e-3))}/s"


def format_percent(part: float, whole: float) -> str:
    """Returns what share `part` has of `whole`; a dash where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def format_money(amount: float) -> str:
    """Returns an amount of no particular currency, with what matters of small ones."""
    if 0 < abs(amount) < 0.0001:
        return "under 0.0001"
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.4f}"


def format_count(number: int, noun: str) -> str:
    """Returns `1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_time(seconds: float) -> str:
    """Returns a time in Unix seconds for people, in the zone of this machine."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def format_table(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Returns rows as aligned columns, the first `left` of them flush left, the others right.

    Nothing is cut to the terminal's width: the output may go to a pipe.
    """
    rows = [tuple(map(show, row)) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = (
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    return "\n".join(map(line, rows))
