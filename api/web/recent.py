"""The dashboard's report, kept for a minute: 10,000 repos take seconds, and a page is loaded again
and again. A commit or anything else in the journal makes a new one at once."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from starlette.requests import Request

from .figures import DASHBOARD

if TYPE_CHECKING:
    from ...dedup.local_vault import LocalVault
    from ...dedup.model.report import Report

_SECONDS = 60


class RecentReport:
    """The last report on a vault. Safe to use from several threads, one of which makes it."""

    def __init__(self, vault: LocalVault) -> None:
        self.vault = vault
        self._lock = threading.Lock()
        self._report: Report | None = None
        self._of: str | None = None

    def get(self) -> Report:
        """Returns a report of at most a minute ago, since which nothing was committed."""
        newest = self.vault.catalogue.last_entry()
        with self._lock:
            report = self._report
            if report is None or self._of != newest or report.at < time.time() - _SECONDS:
                report = self._report = self.vault.report(DASHBOARD)
                self._of = newest
            return report


def recent_report(request: Request) -> Report:
    """Returns the recent report on the application's vault."""
    state = request.app.state
    recent: RecentReport | None = getattr(state, "recent_report", None)
    if recent is None or recent.vault is not state.vault:
        recent = state.recent_report = RecentReport(state.vault)
    return recent.get()
