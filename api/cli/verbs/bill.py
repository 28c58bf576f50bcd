"""The verb that makes out bills."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ..console import Session
from ..options import verb
from .report import find_class

if TYPE_CHECKING:
    from ...bill_text import PricedBill

_MOST_MONTHS = 60


@verb("bill")
@click.option("--month", metavar="YYYY-MM", help="The last month of the bill.  [default: this one]")
@click.option(
    "--months",
    type=click.IntRange(1, _MOST_MONTHS),
    default=1,
    show_default=True,
    help="How many months, up to that one.",
)
@click.option(
    "--by",
    type=click.Choice(("namespace", "repo")),
    default="namespace",
    show_default=True,
    help="What a line is.",
)
@click.option("--class", "price_class", metavar="NAME", help="Storage class of the price table.")
@click.option(
    "--prices",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Price table (TOML) to use instead of the built-in one.",
)
@click.option(
    "--price", type=click.FloatRange(min=0), metavar="P", help="Price per GiB and month instead."
)
@click.option("--csv", "as_csv", is_flag=True, help="One line for each month and name.")
def bill(
    session: Session,
    month: str | None,
    months: int,
    by: Literal["namespace", "repo"],
    price_class: str | None,
    prices: Path | None,
    price: float | None,
    as_csv: bool,
) -> None:
    """Make out a month's bill: what of the stored bytes is put down to whom, and what that costs.

    The lines add up to what the vault stores, to the byte, and to what that costs. A token that is
    limited to a namespace gets its own line (`weightvault settings bills`).
    """
    from ... import bill_text

    chosen = find_class(price_class, prices, price)
    with session.open() as vault:
        found = [
            bill_text.add_costs(vault.make_bill(each, by), chosen)
            for each in _list_months(month, months)
        ]
    document = {"bills": [bill_text.bill_json(each) for each in found]}
    session.emit(document, _to_text(found, as_csv=as_csv))


def _list_months(last: str | None, count: int) -> list[str]:
    """Returns `count` months up to the last one, oldest first. Raises InvalidInput."""
    from datetime import UTC, datetime

    from ....dedup.reports.bills import check_month

    newest = check_month(last or datetime.now(UTC).strftime("%Y-%m"))
    number = int(newest[:4]) * 12 + int(newest[5:]) - 1
    return [f"{n // 12:04}-{n % 12 + 1:02}" for n in range(number - count + 1, number + 1)]


def _to_text(found: list[PricedBill], *, as_csv: bool) -> str:
    from ... import bill_text

    if as_csv:
        return bill_text.bill_csv(found)
    return "\n\n".join(map(bill_text.bill_table, found))
