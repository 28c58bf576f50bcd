"""The storage dashboard: what everything takes and costs, by whom, how it grew, and what a deletion
would free."""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse

from ...dedup.errors import InvalidInput, RepoNotFound, VaultError
from ...dedup.model.report import Prediction
from ...dedup.reports.prices import PriceTable, StorageClass
from ..bill_text import add_costs, bill_csv
from ..report_text import FORECAST_DAYS, Priced, price_report, to_csv
from ..requests.access import needs, reads_everything
from ..requests.callers import caller_of
from ..v1.bills import recent_bills, server_prices
from ..v1.reports import quotas_seen
from ..v1.routes import VaultParam
from .figures import draw_all
from .paging import PageRoute
from .recent import recent_report
from .rendering import HEADERS, render

_MOST_PULLS = 1_000_000
_MAX_NAME = 220
_log = logging.getLogger("weightvault.api")

router = APIRouter(include_in_schema=False, route_class=PageRoute)

ClassParam = Annotated[str | None, Query(alias="class", max_length=60)]
PullsParam = Annotated[float, Query(ge=0, le=_MOST_PULLS)]


@router.get("/-/storage", dependencies=needs(reads_everything))
def show_storage(
    request: Request,
    vault: VaultParam,
    chosen: ClassParam = None,
    pulls: PullsParam = 0.0,
    rm: Annotated[str, Query(max_length=_MAX_NAME)] = "",
) -> Response:
    """The dashboard, priced by a class of the server's table; `rm` is a repo whose deletion is
    predicted."""
    table, prices = _prices(chosen)
    priced = price_report(recent_report(request), prices, pulls)
    found = _predict(vault, rm.strip()) if rm.strip() else None
    return render(
        request,
        "storage.html",
        report=priced.report,
        priced=priced,
        figures=draw_all(priced.report),
        quotas=quotas_seen(vault, caller_of(request)),
        classes=table.classes.values(),
        forecasts=_forecasts(priced),
        pulls=pulls,
        rm=rm.strip(),
        prediction=found if isinstance(found, Prediction) else None,
        unknown=found if isinstance(found, str) else None,
    )


@router.get("/-/storage/report.csv", dependencies=needs(reads_everything))
def download_report(
    request: Request, chosen: ClassParam = None, pulls: PullsParam = 0.0
) -> Response:
    """The dashboard's numbers for spreadsheets."""
    priced = price_report(recent_report(request), _prices(chosen)[1], pulls)
    return _csv(to_csv(priced), "report.csv")


@router.get("/-/storage/bill.csv", dependencies=needs(reads_everything))
def download_bill(
    request: Request,
    chosen: ClassParam = None,
    month: Annotated[str | None, Query(max_length=7)] = None,
) -> Response:
    """A month's bill by namespace, of this one unless told otherwise."""
    bill = recent_bills(request).get(month, "namespace")
    return _csv(bill_csv([add_costs(bill, _prices(chosen)[1])]), f"bill-{bill.month}.csv")


def _prices(chosen: str | None) -> tuple[PriceTable, StorageClass]:
    """Returns the server's table of prices, and a class of it. Raises InvalidInput for one that is
    not there."""
    try:
        table = server_prices()
    except VaultError as error:
        _log.error("%s", error.__cause__ or error)
        raise
    return table, table.find(chosen)


def _predict(vault: VaultParam, repo: str) -> Prediction | str:
    """Says what deleting a repo would free, or why that cannot be said."""
    try:
        return vault.predict_removal([repo])
    except (RepoNotFound, InvalidInput) as error:
        return error.message


def _forecasts(priced: Priced) -> list[tuple[int, int, float]]:
    """Days ahead, bytes that will be stored then, and their cost a month."""
    found = ((days, priced.forecast(days)) for days in FORECAST_DAYS)
    return [(days, *sums) for days, sums in found if sums is not None]


def _csv(text: str, name: str) -> Response:
    headers = {**HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    return PlainTextResponse(text + "\n", headers=headers, media_type="text/csv; charset=utf-8")
