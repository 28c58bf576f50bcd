"""Reports as tables for people and as CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from ..dedup.model.report import Breakdown, Comparison, Report, Row
from ..dedup.reports.bills import forecast
from ..dedup.reports.prices import Bill, StorageClass, Usage, bill_for, plain_usage, usage_of
from ..store.catalogue.access.limits import Limits
from .formatting import format_bytes, format_count, format_money, format_percent, format_table
from .terminal import show

# Longer tables than this are for files.
TABLE_ROWS = 20
_DAYS = 14
FORECAST_DAYS = (30, 90, 365)


@dataclass(frozen=True, slots=True)
class Priced:
    """A report with its bill, that of the same files as plain files, and the class they are by."""

    report: Report
    prices: StorageClass
    bill: Bill
    plain: Bill

    def cost_of(self, row: Row) -> float:
        """Money a month for what is put down to a row: its part of the bill, as of the frames."""
        return self.bill.total * row.billed / self.report.frames if self.report.frames else 0.0

    @property
    def saved(self) -> float:
        """Money a month that the same files would cost more as plain files."""
        return self.plain.total - self.bill.total

    def forecast(self, ahead_days: int) -> tuple[int, float] | None:
        """Returns what will be stored so many days from now, in bytes, and its cost a month, if the
        vault goes on growing as it did; None where too few days are on record."""
        stored = forecast(self.report.growth, ahead_days)
        if stored is None:
            return None
        return stored, bill_for(self.prices, Usage(stored)).total


def price_report(report: Report, prices: StorageClass, pulls: float) -> Priced:
    """Makes out the bills of a report."""
    ours, plain = usage_of(report, prices, pulls), plain_usage(report, pulls)
    return Priced(report, prices, bill_for(prices, ours), bill_for(prices, plain))


def to_table(priced: Priced) -> str:
    """Returns a report as text."""
    found = priced.report
    parts = [
        format_table([("", "size", "of logical"), *_totals(found)]),
        _describe_counts(found),
        _describe_metadata(found),
        *_describe_garbage(found),
        _describe_bill(priced),
        *(_to_rows(priced, breakdown) for breakdown in found.breakdowns),
    ]
    if len(found.growth) > 1:
        parts.append(_describe_growth(found))
    return "\n\n".join(parts)


def to_csv(priced: Priced) -> str:
    """Returns a report with one number a line, so that columns never change."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("scope", "name", "metric", "value"))
    writer.writerows(("vault", "", metric, value) for metric, value in _vault_numbers(priced))
    for breakdown in priced.report.breakdowns:
        for row in breakdown.rows:
            for metric, value in _row_numbers(priced, row):
                writer.writerow((breakdown.by, row.name, metric, value))
    for day in priced.report.growth:
        numbers = asdict(day)
        name = numbers.pop("day")
        for metric, value in numbers.items():
            if value is not None:
                writer.writerow(("day", name, metric, int(value)))
    return out.getvalue().rstrip("\n")


def _totals(found: Report) -> Iterator[tuple[str, str, str]]:
    labels = {
        "files": "  saved by whole files",
        "inlined": "  kept in manifests",
        "tensors": "  saved by tensors",
        "chunks": "  saved by chunks",
        "coding": "  saved by entropy coding",
        "deltas": "  saved by deltas",
        "derivations": "  saved by derivations",
        "uploads": "  uploads without a commit",
        "metadata": "  metadata",
        "garbage": "  garbage",
        "missing": "  missing",
    }
    for step in found.waterfall():
        label = labels.get(step.name, step.name)
        if step.name == "metadata":
            yield "frames", format_bytes(found.frames), format_percent(found.frames, found.logical)
        yield label, format_bytes(step.bytes), format_percent(step.bytes, found.logical)


def _describe_counts(found: Report) -> str:
    counts = (
        (found.repos, "repo"),
        (found.commits, "commit"),
        (found.files, "file"),
        (found.chunks, "distinct chunk"),
    )
    unique = f"{format_bytes(found.unique)} unique"
    return f"{', '.join(format_count(number, noun) for number, noun in counts)}; {unique}"


def _describe_metadata(found: Report) -> str:
    parts = asdict(found.metadata_parts)
    space = parts.pop("catalogue")
    named = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts.items() if size)
    beside = f"; beside the store, the catalogue takes {format_bytes(space)}" if space else ""
    return f"metadata: {named or 'none'}{beside}"


def _describe_garbage(found: Report) -> Iterator[str]:
    waste = found.garbage_parts
    if not found.garbage:
        return
    lines = [f"garbage: {format_bytes(found.garbage)} that nothing needs"]
    if waste.objects:
        lines.append(f"  {_count(waste.objects, waste.objects_bytes)} can go whole")
    if waste.retired and waste.ends is not None:
        days = waste.grace_seconds / 86400
        ends = datetime.fromtimestamp(waste.ends, UTC).strftime("%Y-%m-%d %H:%M UTC")
        retired = _count(waste.retired, waste.retired_bytes)
        lines.append(f"  {retired} of that wait for the end of a grace of {days:g} days, {ends}")
    if waste.objects > waste.retired:
        lines.append("  `weightvault gc` starts the grace of what has none yet, and ends it")
    if waste.dead_frames:
        dead = format_bytes(waste.dead_frames)
        lines.append(f"  {dead} of dead frames in living packs, rewritten once half a pack is dead")
    yield "\n".join(lines)


def _count(objects: int, size: int) -> str:
    return f"{format_count(objects, 'object')} ({format_bytes(size)})"


def _describe_bill(priced: Priced) -> str:
    bill, prices = priced.bill, priced.prices
    unit = f" {bill.currency}" if bill.currency else ""
    parts = (("storage", bill.storage), ("requests", bill.requests))
    parts += (("transfer", bill.transfer), ("egress", bill.egress))
    named = ", ".join(f"{name} {format_money(cost)}" for name, cost in parts if cost)
    return (
        f"per month by {prices.title} ({prices.origin}):\n"
        f"  {format_money(bill.total)}{unit} cost{f': {named}' if named else ''}\n"
        f"  {format_money(priced.plain.total)}{unit} as plain files: "
        f"{format_money(priced.saved)}{unit} saved" + "".join(_describe_forecast(priced, unit))
    )


def _describe_forecast(priced: Priced, unit: str) -> Iterator[str]:
    for days in FORECAST_DAYS:
        found = priced.forecast(days)
        if found is not None:
            stored, cost = format_bytes(found[0]), format_money(found[1])
            yield f"\n  in {days} days, growing as now: {stored} stored, {cost}{unit}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of breakdowns: its name in CSV, its title in tables, None where they lack it, its
    number for a row, None where there is none, and how that is written in tables."""

    name: str
    title: str | None
    number: Callable[[Priced, Row], float | None]
    show: Callable[[float], str] = format_bytes


COLUMNS = (
    Column("commits", None, lambda _, row: row.commits),
    Column("logical", "logical", lambda _, row: row.logical),
    Column("unique", "unique", lambda _, row: row.unique),
    Column("own", "own", lambda _, row: row.exclusive),
    Column("shared", "shared", lambda _, row: row.shared),
    Column("share", "share", lambda _, row: row.attributed),
    Column("billed", "billed", lambda _, row: row.billed),
    Column("cost", "a month", lambda priced, row: priced.cost_of(row), format_money),
)


def _to_rows(priced: Priced, breakdown: Breakdown) -> str:
    head = (breakdown.by, *(column.title for column in COLUMNS if column.title))
    rows = [head, *(_to_cells(priced, row) for row in breakdown.rows)]
    if any(row.quota for row in breakdown.rows):
        quotas = (_to_quota_cells(row) for row in breakdown.rows)
        titles = ("may: stored", "logical", "repos")
        rows = [row + more for row, more in zip(rows, (titles, *quotas), strict=True)]
    if breakdown.others:
        others = _to_cells(priced, breakdown.others)
        rows.append(others + ("",) * (len(rows[0]) - len(others)))
    with_whom = list(_describe_partners(breakdown.rows))
    return "\n".join([format_table(rows), *(["", *with_whom] if with_whom else [])])


def _to_cells(priced: Priced, row: Row) -> tuple[str, ...]:
    name = f"{row.name} ({row.label})" if row.label else row.name
    numbers = ((column, column.number(priced, row)) for column in COLUMNS if column.title)
    return name, *("-" if found is None else column.show(found) for column, found in numbers)


def _to_quota_cells(row: Row) -> tuple[str, ...]:
    """What a namespace may have of distinct content, of files and of repos."""
    limits = row.quota or Limits()
    sizes = (
        "any" if most is None else format_bytes(most) for most in (limits.stored, limits.logical)
    )
    return *sizes, "any" if limits.repos is None else str(limits.repos)


def _describe_partners(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows[:TABLE_ROWS]:
        if row.partners:
            named = ", ".join(f"{p.name} ({format_bytes(p.bytes)})" for p in row.partners[:3])
            yield show(f"{row.name} shares with {named}")


def _describe_growth(found: Report) -> str:
    rows: list[tuple[str, ...]] = [("day", "repos", "logical", "unique", "frames", "stored")]
    for day in found.growth[-_DAYS:]:
        stored = "-" if day.stored is None else format_bytes(day.stored)
        sizes = map(format_bytes, (day.logical, day.unique, day.frames))
        rows.append((day.day, str(day.repos), *sizes, stored))
    derived = any(not day.recorded for day in found.growth[-_DAYS:])
    note = "\n- : not on record; worked out from what is stored today" if derived else ""
    return format_table(rows) + note


def _vault_numbers(priced: Priced) -> Iterator[tuple[str, float]]:
    found = priced.report
    for name in ("repos", "commits", "files", "chunks", "logical", "distinct_files", "unique"):
        yield name, getattr(found, name)
    for name in ("frames", "uploads", "metadata", "garbage", "missing", "stored"):
        yield name, getattr(found, name)
    yield from ((f"saved_{stage}", size) for stage, size in asdict(found.stages).items())
    for prefix, parts in (
        ("metadata", asdict(found.metadata_parts)),
        ("garbage", asdict(found.garbage_parts)),
    ):
        yield from ((f"{prefix}_{n}", value) for n, value in parts.items() if value is not None)
    yield from ((f"cost_{n}", v) for n, v in asdict(priced.bill).items() if n != "currency")
    yield from (("cost", priced.bill.total), ("plain_cost", priced.plain.total))
    yield "saved", priced.saved


def _row_numbers(priced: Priced, row: Row) -> Iterator[tuple[str, float]]:
    for column in COLUMNS:
        value = column.number(priced, row)
        if value is not None:
            yield column.name, value


def comparison_table(found: Comparison) -> str:
    """Returns a comparison as text."""
    rows = [("", "size", "of plain", "measured", "s")]
    for method in found.methods:
        whole = found.of_logical if method.measured == "full" else found.logical
        share = format_percent(method.bytes, whole)
        seconds = f"{method.seconds:.1f}" if method.seconds else "-"
        rows.append((method.name, format_bytes(method.bytes), share, method.measured, seconds))
    part = "all files" if found.share == 1 else f"a sample, {100 * found.share:g} % of them"
    read = (
        f"{found.files} of {format_count(found.of_files, 'distinct file')} read ({part}, seed "
        f"{found.seed}): {format_bytes(found.logical)} of {format_bytes(found.of_logical)}"
    )
    notes = [show(f"{method.name}: {method.note}") for method in found.methods]
    return "\n".join([format_table(rows), "", read, "", *notes])
