"""The verbs that look over the whole vault: report and check."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ... import config
from ...errors import from_os_error
from ...extras import extra
from ...formatting import format_count
from ...terminal import show
from .. import exits
from ..console import Session, interruptible
from ..options import ShareType, verb
from . import what_if

if TYPE_CHECKING:
    from ....dedup.model.report import Report
    from ....dedup.reports.prices import StorageClass
    from ....dedup.vault import CheckResult
    from ...report_text import Priced

# As dedup.model.report.DIMENSIONS, which takes longer to import than --help may.
_DIMENSIONS = ("namespace", "repo", "revision", "format", "dtype", "codec")
# What charts are drawn of.
_CHARTED = ("repo", "format", "dtype", "codec")


@verb("report")
@click.option(
    "--by",
    type=click.Choice(_DIMENSIONS),
    multiple=True,
    help="Break the bytes down by this; may be given several times. By default repo.",
)
@click.option(
    "--top", type=click.IntRange(min=1), metavar="N", help="Show only the N largest rows."
)
@click.option("--since", metavar="DATE", help="Show growth from this day (2026-12-31) on.")
@click.option(
    "--class",
    "price_class",
    metavar="NAME",
    help="Storage class of the price table to calculate with; by default the default of the table.",
)
@click.option(
    "--prices",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Price table (TOML) to use instead of the built-in one.",
)
@click.option(
    "--pulls",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="N",
    help="Assume that every repo's newest commit is pulled N times a month.",
)
@click.option(
    "--price",
    type=click.FloatRange(min=0),
    metavar="P",
    help="Price per GiB and month, instead of a table.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "html"]),
    default="table",
    show_default=True,
    help="CSV and JSON have bytes as plain numbers; json is the same as --json. html is one file "
    "with charts that needs nothing else.",
)
@click.option(
    "--png",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write a chart of what each step saved to FILE; needs weightvault[charts].",
)
@click.option(
    "--what-if",
    "change",
    type=click.Choice(what_if.CHANGES),
    help="Predict what a decision would free: `rm REPO...`, `optimise`, or `storage-class NAME`.",
)
@click.option("--compare", is_flag=True, help="Measure what other storage methods would take.")
@click.option(
    "--sample",
    type=ShareType(),
    metavar="SHARE",
    help="Compare on this share of the files only, such as 5%.",
)
@click.option("--seed", default=0, show_default=True, help="Seed for drawing the sample.")
@click.argument("words", nargs=-1, metavar="[REPO...]")
def report(
    session: Session,
    by: tuple[Any, ...],
    top: int | None,
    since: str | None,
    price_class: str | None,
    prices: Path | None,
    pulls: float,
    price: float | None,
    form: str,
    png: Path | None,
    change: str | None,
    compare: bool,
    sample: float | None,
    seed: int,
    words: tuple[str, ...],
) -> None:
    """Show where the bytes go: logical, unique and stored bytes, what each step saved, whose
    they are, how they grew, and what they cost.

    With --what-if it says what a decision would free, with --compare what other ways of storing
    would take.
    """
    from ....dedup.model.report import Query, to_json
    from ... import report_text
    from ...progress import make_progress

    _check_asked(change, compare, sample, "PNG" if png else form.upper(), words)
    session.json = session.json or form == "json"
    chosen = find_class(price_class, prices, price)
    if change == "storage-class":
        then = find_class(words[0], prices, None)
        with session.open() as vault:
            session.emit(*what_if.change_class(vault, chosen, then, pulls))
        return
    if change:
        with session.open() as vault:
            session.emit(*what_if.predict(vault, change, words, chosen))
        return
    if compare:
        with session.open() as vault, interruptible(_explain_comparison):
            measured = vault.compare(sample or 1.0, seed, make_progress())
        session.emit(to_json(measured), report_text.comparison_table(measured))
        return
    query = Query(by or ("repo",), top, since)
    if form == "html":
        query = replace(query, by=by or _CHARTED)
    if top is None and form in ("table", "html") and not session.json:
        query = replace(query, top=report_text.TABLE_ROWS)
    with session.open() as vault:
        found = vault.report(query)
    priced = report_text.price_report(found, chosen, pulls)
    if png is not None:
        _draw(png, found)
    session.emit(to_json(found) | {"costs": costs_json(priced)}, _to_text(priced, form))


def _to_text(priced: Priced, form: str) -> str:
    from ... import report_text

    if form == "html":
        with extra("server", "a report in HTML"):
            from ...web.export import render_report

        return render_report(priced)
    return report_text.to_csv(priced) if form == "csv" else report_text.to_table(priced)


def _draw(path: Path, found: Report) -> None:
    with extra("server", "a chart"):
        from ...web.export import render_waterfall

    picture = render_waterfall(found)
    try:
        path.write_bytes(picture)
    except OSError as error:
        raise from_os_error(error, f"cannot write {path}") from error


def _check_asked(
    change: str | None, compare: bool, sample: float | None, form: str, words: tuple[str, ...]
) -> None:
    """Raises UsageError for options that do not go together."""
    if change and compare:
        raise click.UsageError("--what-if and --compare answer different questions: ask one")
    if (change or compare) and form in ("CSV", "HTML", "PNG"):
        raise click.UsageError(f"--what-if and --compare have no {form}: use --format json")
    if sample is not None and not compare:
        raise click.UsageError("--sample goes with --compare")
    if change:
        what_if.check_words(change, words)
    elif words:
        raise click.UsageError(f"{words[0]!r} says nothing here: --what-if rm takes repos")


def _explain_comparison() -> tuple[str, str]:
    return "interrupted; nothing was changed", "--sample 5% takes a twentieth of the time"


def find_class(name: str | None, prices: Path | None, price: float | None) -> StorageClass:
    """Returns the storage class that the options name. Raises InvalidInput."""
    from ....dedup.reports.prices import flat_class, load_prices

    if price is not None:
        return flat_class(price)
    return load_prices(prices or config.prices_path()).find(name)


def costs_json(priced: Any) -> dict[str, Any]:
    """Returns bills and the prices they are by."""
    prices = asdict(priced.prices) | {"date": priced.prices.date.isoformat()}
    bills = {"stored": priced.bill, "plain": priced.plain}
    named = {name: asdict(b) | {"total": b.total} for name, b in bills.items()}
    return named | {"saved": priced.saved, "prices": prices}


@verb("check")
def check(session: Session) -> None:
    """Check that everything the vault refers to is there; changes nothing.

    Ends with status 1 if it found problems.
    """
    from ...progress import make_progress

    def explain() -> tuple[str, str]:
        return "interrupted; a check changes nothing", "run check again: it starts over"

    with session.open() as vault, interruptible(explain):
        found = vault.check(make_progress())
    session.emit({"ok": not found.problems, **asdict(found)}, _describe_check(found))
    if found.problems:
        click.get_current_context().exit(exits.FAILED)


def _describe_check(found: CheckResult) -> str:
    seen = ", ".join(
        format_count(number, noun)
        for number, noun in (
            (found.repos, "repo"),
            (found.commits, "commit"),
            (found.manifests, "manifest"),
            (found.packs, "pack"),
            (found.chunks, "chunk"),
        )
    )
    verdict = f"{format_count(len(found.problems), 'problem')}:" if found.problems else "all well"
    return "\n".join((f"{seen}: {verdict}", *map(show, found.problems)))
