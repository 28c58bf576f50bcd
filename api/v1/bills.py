"""The endpoint of bills: who reads every repo sees all lines, others those of their namespaces."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request

from ...dedup.errors import InvalidInput, VaultError
from ...dedup.local_vault import LocalVault
from ...dedup.model.bills import BillLine, MonthBill
from ...dedup.reports.bills import MICRO, By, check_month, month_of, price_bill, total_cost
from ...dedup.reports.prices import PriceTable, load_prices
from ...store.repo_names import namespace_of
from .. import config
from ..requests.access import needs, sees_own
from ..requests.callers import Caller, caller_of
from ..requests.slots import run_checked
from .documented import FAILURES
from .report_schemas import BillLineSchema, BillSchema, TrafficSchema
from .routes import VaultParam

_MOST_LINES = 1000
_KEPT = 16
_SECONDS = 60.0
# A repo's name with its kind, or that of a namespace.
_MAX_NAME = 220

router = APIRouter(prefix="/v1", tags=["reports"], responses=FAILURES)


@dataclass(slots=True)
class _Kept:
    bill: MonthBill
    at: float
    last: str | None


class RecentBills:
    """The last few bills of a vault, each for a minute unless something was committed. Safe to use
    from several threads, one of which makes them."""

    def __init__(self, vault: LocalVault) -> None:
        self.vault = vault
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, By], _Kept] = {}

    def get(self, month: str | None, by: By) -> MonthBill:
        """Returns the bill of a month, of this one for None. Raises InvalidInput."""
        month = check_month(month or month_of(time.time()))
        last = self.vault.catalogue.last_entry()
        with self._lock:
            found = self._kept.get((month, by))
            if found is None or found.last != last or found.at < time.time() - _SECONDS:
                while len(self._kept) >= _KEPT:
                    del self._kept[next(iter(self._kept))]
                made = self.vault.make_bill(month, by)
                found = self._kept[month, by] = _Kept(made, time.time(), last)
            return found.bill


def recent_bills(request: Request) -> RecentBills:
    """Returns the bills of the application's vault."""
    state = request.app.state
    found: RecentBills | None = getattr(state, "recent_bills", None)
    if found is None or found.vault is not state.vault:
        found = state.recent_bills = RecentBills(state.vault)
    return found


def server_prices() -> PriceTable:
    """Returns the server's table of prices. Raises VaultError where it cannot be read."""
    try:
        return load_prices(config.prices_path())
    except InvalidInput as error:
        # It names a file of the server, and whoever asks can do nothing about it.
        raise VaultError("the server's table of prices cannot be read") from error


@router.get("/bills", summary="Make out a month's bill", dependencies=needs(sees_own))
async def make_bill(
    request: Request,
    vault: VaultParam,
    month: Annotated[str | None, Query(max_length=7, description="YYYY-MM; by default now")] = None,
    by: Annotated[Literal["namespace", "repo"], Query(description="what a line is")] = "namespace",
    storage_class: Annotated[
        str | None, Query(max_length=60, description="of the server's table of prices")
    ] = None,
    after: Annotated[str, Query(max_length=_MAX_NAME, description="last name of a page")] = "",
    limit: Annotated[int, Query(ge=1, le=_MOST_LINES, description="lines at most")] = _MOST_LINES,
) -> BillSchema:
    """Says what of the stored bytes is put down to whom, and what that costs.

    Lines are by name; the next page begins after the last one. A token that is limited to
    namespaces gets their lines: frames and money of these only where the operator shows bills
    (`weightvault settings bills shown`), as they depend on what others have.
    """
    caller = caller_of(request)

    def work() -> BillSchema:
        prices = server_prices().find(storage_class)
        bill = recent_bills(request).get(month, by)
        costs = price_bill(bill, prices)
        shown = caller.reads_all or vault.shows_bills()
        told = caller.reads_all and bill.traffic is not None
        lines = [
            _line(line, cost / MICRO, whole=shown)
            for line, cost in zip(bill.lines, costs, strict=True)
            if line.name > after and _may_see(caller, line.name, by)
        ][:limit]
        return BillSchema(
            month=bill.month,
            recorded=bill.recorded,
            stored=bill.stored if caller.reads_all else None,
            cost=total_cost(bill, prices) / MICRO if caller.reads_all else None,
            counted="stored" if shown else "raw",
            currency=prices.currency,
            storage_class=prices.name,
            lines=lines,
            traffic=TrafficSchema.model_validate(bill.traffic) if told else None,
        )

    return await run_checked(request, work)


def _may_see(caller: Caller, name: str, by: By) -> bool:
    if caller.reads_all:
        return True
    if "/" not in name and by == "repo":
        return False
    return (name if by == "namespace" else namespace_of(name)) in caller.namespaces


def _line(line: BillLine, cost: float, *, whole: bool) -> BillLineSchema:
    if not whole:
        return BillLineSchema(name=line.name, logical=line.logical, unique=line.unique)
    return BillLineSchema.model_validate(line).model_copy(update={"cost": cost})
