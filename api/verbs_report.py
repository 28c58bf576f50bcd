"""The verbs that look over the whole vault: report and check."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from . import exits
from .console import Session, format_bytes, format_count, format_money, format_percent, format_table
from .options import verb

if TYPE_CHECKING:
    from ..dedup.vault import CheckResult, Report


@verb("report")
@click.option(
    "--price",
    type=click.FloatRange(min=0),
    help="Money per GiB and month; by default that of S3 standard, 0.023.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="CSV and JSON have bytes as plain numbers; json is the same as --json.",
)
def report(session: Session, price: float | None, form: str) -> None:
    """Report logical, unique and stored bytes, what each stage saved, and what each repo costs."""
    from ..dedup.vault import S3_STANDARD_PRICE

    with session.open() as vault:
        found = vault.report(S3_STANDARD_PRICE if price is None else price)
    session.json = session.json or form == "json"
    document = asdict(found) | {"cost": found.cost, "plain_cost": found.plain_cost}
    session.emit(document, _to_csv(found) if form == "csv" else _to_table(found))


@verb("check")
def check(session: Session) -> None:
    """Check that everything the vault refers to is there; changes nothing.

    Ends with status 1 if it found problems.
    """
    with session.open() as vault:
        found = vault.check()
    session.emit({"ok": not found.problems, **asdict(found)}, _describe_check(found))
    if found.problems:
        click.get_current_context().exit(exits.FAILED)


def _to_table(found: Report) -> str:
    totals = format_table([("", "size", "of logical"), *_total_rows(found)])
    head = ("repo", "commits", "logical", "unique", "own", "shared")
    repos = format_table([head, *_repo_rows(found)])
    counts = ", ".join(
        (
            format_count(found.repos, "repo"),
            format_count(found.commits, "commit"),
            format_count(found.files, "file"),
            format_count(found.chunks, "distinct chunk"),
        )
    )
    return f"{totals}\n\n{_describe_cost(found)}\n\n{repos}\n\n{counts}"


def _total_rows(found: Report) -> Iterator[tuple[str, str, str]]:
    saved = found.stages
    for label, size in (
        ("logical", found.logical),
        ("  saved by whole files", saved.files),
        ("  saved by tensors", saved.tensors),
        ("  saved by coding", saved.coding),
        ("  saved by deltas", saved.deltas),
        ("unique", found.unique),
        ("frames", found.frames),
        ("metadata", found.metadata),
        ("garbage", found.garbage),
        ("stored", found.stored),
    ):
        yield label, format_bytes(size), format_percent(size, found.logical)


def _repo_rows(found: Report) -> Iterator[tuple[str, ...]]:
    for repo in found.by_repo:
        sizes = (repo.logical, repo.unique, repo.exclusive, repo.shared)
        yield repo.name, str(repo.commits), *map(format_bytes, sizes)


def _describe_cost(found: Report) -> str:
    return (
        f"per month at {found.price:g} per GiB: {format_money(found.cost)} stored, "
        f"{format_money(found.plain_cost)} as plain files"
    )


def _to_csv(found: Report) -> str:
    """One number a line, so that columns never change: scope (vault or a repo), metric, value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("scope", "metric", "value"))
    writer.writerows(("vault", metric, value) for metric, value in _vault_numbers(found))
    for repo in found.by_repo:
        numbers = asdict(repo)
        name = numbers.pop("name")
        writer.writerows((name, metric, value) for metric, value in numbers.items())
    return out.getvalue().rstrip("\n")


def _vault_numbers(found: Report) -> Iterator[tuple[str, float]]:
    numbers = asdict(found)
    stages = numbers.pop("stages")
    numbers.pop("by_repo")
    yield from numbers.items()
    yield from ((f"saved_{stage}", size) for stage, size in stages.items())
    yield from (("cost", found.cost), ("plain_cost", found.plain_cost))


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
    return "\n".join((f"{seen}: {verdict}", *found.problems))
