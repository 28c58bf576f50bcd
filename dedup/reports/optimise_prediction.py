"""What `optimise` would save, by its own dry run."""

from __future__ import annotations

from ..model.report import Prediction, Query
from ..vault import Vault


def predict_optimise(vault: Vault) -> Prediction:
    """Returns what re-encoding families, and a collection of the frames replaced, would save.

    An estimate: sizes come from sketches, as the plans do. Reads no weights.
    """
    before = after = 0
    cursor: int | None = 0
    while cursor is not None:
        step = vault.optimise(cursor, dry_run=True)
        before, after, cursor = before + step.before, after + step.after, step.cursor
    report = vault.report(Query(()))
    stored = report.stored - report.metadata_parts.journal
    return Prediction(
        change="optimise",
        subjects=(),
        exact=False,
        before=stored,
        after=stored - report.garbage - (before - after),
        waiting=report.garbage,
        written=after,
    )
