"""What every report of a vault adds up to."""

from __future__ import annotations

from dataclasses import asdict

from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.report import DIMENSIONS, Query, Report

ALL = Query(DIMENSIONS)


def check_report(vault: LocalVault, report: Report) -> None:
    """What model.py promises."""
    listed = sum(info.size for info in vault.backend.list())
    assert report.stored == listed
    assert report.stored == report.frames + report.metadata + report.garbage - report.missing
    saved = sum(asdict(report.stages).values())
    assert report.logical - saved + report.uploads == report.frames
    for breakdown in report.breakdowns:
        assert sum(row.billed for row in breakdown.rows) == report.frames, breakdown.by
        logical = [row.logical for row in breakdown.rows if row.logical is not None]
        assert sum(logical) in (report.logical, 0), breakdown.by
    assert sum(row.unique for row in report.breakdown("dtype").rows) == report.unique
    assert [step.stop for step in report.waterfall()][-1] == report.stored
    assert report.growth[-1].stored == report.stored
    assert report.traffic is not None
    assert (report.traffic.files, report.traffic.files_bytes) == (report.files, report.logical)
    assert report.traffic.written_bytes == report.stored
