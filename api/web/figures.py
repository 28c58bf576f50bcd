"""The charts: what each shows, as numbers and in words.

A figure is drawn by `static/charts.js` in pages and in the HTML report, and by `png.py` where there
is no browser. Its table is on the page too, for whoever does not see the drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ...dedup.model.report import Query
from ..formatting import format_bytes, format_percent

if TYPE_CHECKING:
    from ...dedup.model.report import Breakdown, Report, Row

_TOP = 12

DASHBOARD = Query(by=("namespace", "repo", "format", "dtype", "codec"), top=_TOP)
"""What the figures need to be told."""

STEP_NAMES = {
    "logical": "logical",
    "files": "whole files",
    "inlined": "short runs",
    "tensors": "tensors",
    "chunks": "chunks",
    "coding": "entropy coding",
    "deltas": "deltas",
    "derivations": "derivations",
    "uploads": "uploads under way",
    "metadata": "metadata",
    "garbage": "garbage",
    "missing": "missing packs",
    "stored": "stored",
}
"""What the bars of the waterfall are called: stages by what they save."""


@dataclass(frozen=True, slots=True)
class Series:
    """A row of bytes, one for each label; None where there is none. `bars` are from one number of
    bytes to another. `colour` is one of charts.js'."""

    name: str
    values: tuple[int | tuple[int, int] | None, ...]
    colour: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart: what kind it is, its title, what it says in a sentence, its labels and series.

    `colours`: one for each bar, where they differ. `table`: heading and rows, as texts.
    """

    name: str
    kind: Literal["waterfall", "bars", "stacked", "lines"]
    title: str
    summary: str
    labels: tuple[str, ...]
    series: tuple[Series, ...]
    head: tuple[str, ...]
    table: tuple[tuple[str, ...], ...]
    colours: tuple[str, ...] = field(default=())

    def data(self) -> dict[str, Any]:
        """What charts.js draws, as JSON's types."""
        drawn = {"kind": self.kind, "title": self.title, "labels": self.labels}
        return drawn | {"colours": self.colours, "series": [asdict(s) for s in self.series]}


def draw_waterfall(report: Report) -> Figure:
    """The main chart: from the files as they are to what is stored, stage by stage."""
    # A stage that neither saved nor cost anything is no bar.
    steps = [step for step in report.waterfall() if step.bytes or step.kind == "total"]
    signs = {"saved": "−", "added": "+", "total": ""}
    rows = [
        (
            STEP_NAMES.get(step.name, step.name),
            signs[step.kind] + format_bytes(abs(step.bytes))
            if step.bytes >= 0
            else "+" + format_bytes(-step.bytes),
            format_percent(abs(step.bytes), report.logical),
        )
        for step in steps
    ]
    return Figure(
        name="waterfall",
        kind="waterfall",
        title="From logical to stored bytes",
        summary=f"{format_bytes(report.logical)} of files are stored in "
        f"{format_bytes(report.stored)}, {format_percent(report.stored, report.logical)} of them.",
        labels=tuple(row[0] for row in rows),
        series=(Series("bytes", tuple((step.start, step.stop) for step in steps), "total"),),
        head=("stage", "bytes", "of logical"),
        table=tuple(rows),
        colours=tuple(step.kind for step in steps),
    )


def draw_growth(report: Report) -> Figure:
    """Logical, unique and stored bytes, day by day, of a report of two days or more."""
    days = report.growth
    kinds = (("logical", "logical", "total"), ("stored", "stored", "saved"))
    kinds = (kinds[0], ("unique", "unique", "added"), ("frames", "frames", "other"), kinds[1])
    series = tuple(
        Series(name, tuple(getattr(day, key) for day in days), colour)
        for name, key, colour in kinds
    )
    return Figure(
        name="growth",
        kind="lines",
        title="Growth",
        summary=f"Bytes day by day since {days[0].day}; stored ones since that is recorded.",
        labels=tuple(day.day for day in days),
        series=series,
        head=("day", *(name for name, _, _ in kinds), "repos", "commits"),
        table=tuple(
            (
                day.day,
                *(
                    "–" if (v := getattr(day, key)) is None else format_bytes(v)
                    for _, key, _ in kinds
                ),
                str(day.repos),
                str(day.commits),
            )
            for day in days
        ),
    )


def draw_owners(found: Breakdown) -> Figure:
    """The repos or namespaces that take most: their own, and their share of what others need."""
    rows = _rows(found)
    return Figure(
        name=f"{found.by}s",
        kind="stacked",
        title=f"{found.by.capitalize()}s that take most",
        summary=f"The first {len(found.rows[:_TOP])} of {found.count} by billed bytes: frames of "
        "their own, and their share of frames that others need too.",
        labels=tuple(row.name for row in rows),
        series=(
            Series("own", tuple(row.exclusive for row in rows), "total"),
            Series("share", tuple(row.attributed for row in rows), "added"),
        ),
        head=(found.by, "logical", "unique", "own", "share", "billed"),
        table=tuple((row.name, _bytes(row.logical), *map(_bytes, _sizes(row))) for row in rows),
    )


def draw_kinds(found: Breakdown, title: str) -> Figure:
    """Codecs or dtypes: raw bytes beside stored ones."""
    rows = _rows(found)
    return Figure(
        name=f"{found.by}s",
        kind="bars",
        title=title,
        summary=f"Distinct chunks by {found.by}: their bytes, and those of their frames.",
        labels=tuple(row.name for row in rows),
        series=(
            Series("unique", tuple(row.unique for row in rows), "other"),
            Series("frames", tuple(row.billed for row in rows), "saved"),
        ),
        head=(found.by, "unique", "frames", "of unique"),
        table=tuple(
            (
                row.name,
                _bytes(row.unique),
                _bytes(row.billed),
                format_percent(row.billed, row.unique),
            )
            for row in rows
        ),
    )


def draw_all(report: Report) -> list[Figure]:
    """The figures that the report has the numbers for, the main one first."""
    figures = [draw_waterfall(report)]
    if len(report.growth) > 1:
        figures.append(draw_growth(report))
    titles = {"codec": "Codecs", "dtype": "Element types", "format": "File formats"}
    for found in report.breakdowns:
        if found.by in ("repo", "namespace"):
            figures.append(draw_owners(found))
        elif found.by in titles:
            figures.append(draw_kinds(found, titles[found.by]))
    return figures


def _rows(found: Breakdown) -> Sequence[Row]:
    return found.rows[:_TOP]


def _sizes(row: Row) -> tuple[int, ...]:
    return row.unique, row.exclusive, row.attributed, row.billed


def _bytes(count: int | None) -> str:
    return "–" if count is None else format_bytes(count)
