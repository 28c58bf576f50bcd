"""`report --what-if`: what a decision would free, in bytes and money."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ...formatting import format_bytes, format_count, format_money, format_percent
from ...terminal import show

if TYPE_CHECKING:
    from ....dedup.model.report import Prediction
    from ....dedup.reports.prices import StorageClass
    from ....dedup.vault import Vault

CHANGES = ("rm", "optimise", "storage-class")


def check_words(change: str, words: Sequence[str]) -> None:
    """Raises UsageError unless `words` are what a change is about."""
    if change == "rm" and not words:
        raise click.UsageError("--what-if rm wants the repos that would be deleted")
    if change == "optimise" and words:
        raise click.UsageError("--what-if optimise is about the whole vault and takes no names")
    if change == "storage-class" and len(words) != 1:
        raise click.UsageError("--what-if storage-class wants one class of the table of prices")


def predict(
    vault: Vault, change: str, words: Sequence[str], prices: StorageClass
) -> tuple[dict[str, Any], str]:
    """Returns what `rm` or `optimise` would do, as JSON and as text."""
    from ....dedup.model.report import to_json
    from ....dedup.reports.optimise_prediction import predict_optimise

    found = vault.predict_removal(words) if change == "rm" else predict_optimise(vault)
    saved = _saved(found, prices)
    money = {"saved": saved, "currency": prices.currency, "class": prices.name}
    return to_json(found) | {"costs": money}, _describe(found, saved, prices)


def change_class(
    vault: Vault, now: StorageClass, then: StorageClass, pulls: float
) -> tuple[dict[str, Any], str]:
    """Returns what keeping everything in another storage class would cost, as JSON and text."""
    from ....dedup.reports.prices import bill_for, usage_of

    report = vault.report()
    before = bill_for(now, usage_of(report, now, pulls))
    after = bill_for(then, usage_of(report, then, pulls))
    saved = before.total - after.total
    document = {
        "change": "storage-class",
        "freed": 0,
        "stored": report.stored,
        "from": {"class": now.name, "cost": before.total, "currency": before.currency},
        "to": {"class": then.name, "cost": after.total, "currency": after.currency},
        "saved": saved,
    }
    lines = [
        f"{format_bytes(report.stored)} stay stored; nothing is freed",
        f"{now.title}: {format_money(before.total)} {before.currency} a month",
        f"{then.title}: {format_money(after.total)} {after.currency} a month",
        f"{'saves' if saved >= 0 else 'costs'} {format_money(abs(saved))} a month"
        f" ({format_percent(abs(saved), before.total)})",
    ]
    if then.least_days:
        lines.append(f"what is removed within {then.least_days} days is paid for that long")
    if then.retrieval and not pulls:
        lines.append("reading costs money there: --pulls N reckons with it")
    return document, "\n".join(lines)


def _saved(found: Prediction, prices: StorageClass) -> float:
    from ....dedup.reports.prices import Usage, bill_for

    before, after = (bill_for(prices, Usage(size)) for size in (found.before, found.after))
    return before.total - after.total


def _describe(found: Prediction, saved: float, prices: StorageClass) -> str:
    about = "about " if not found.exact else ""
    done = (
        f"deleting {', '.join(map(show, found.subjects))}"
        if found.change == "rm"
        else "re-encoding families"
    )
    share = format_percent(found.freed, found.before)
    lines = [
        f"{done}, and gc after its grace, frees {about}{_size(found.freed)} ({share})",
        f"  {_size(found.freed - found.waiting)} by that itself; {_size(found.waiting)} waits"
        " already and goes by gc alone",
        f"  stored then: {_size(found.after)}; {format_money(saved)} {prices.currency} a month less"
        f" by {prices.title}",
    ]
    if found.written:
        lines.append(f"  {_size(found.written)} of it in new packs, for what is live in old ones")
    lines += [
        f"  {_size(reason.bytes)} stay: {show(reason.why)}{_names(reason.names)}"
        for reason in found.kept
    ]
    lines.append("the journal, which notes all of this, grows by some hundred bytes")
    return "\n".join(lines)


def _size(count: int) -> str:
    return f"{format_bytes(count)} ({format_count(count, 'byte')})"


def _names(names: Sequence[str]) -> str:
    return f" ({', '.join(map(show, names))})" if names else ""
