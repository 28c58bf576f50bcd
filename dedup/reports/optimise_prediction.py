"""What `optimise` would save, by its own dry run."""

from __future__ import annotations

from ..model.report import Prediction, Query
from ..vault import Vault


def predict_optimise(vault: Vault) -> Prediction:
    """Returns what re-encoding families, and a collection of the frames replaced, would save.

    An estimate: sizes come from sketches, as the plans do. Reads no weights.
    """
    plan = vault.optimise_all(dry_run=True)
    report = vault.report(Query(()))
    stored = report.stored - report.metadata_parts.journal
    return Prediction(
        change="optimise",
        subjects=(),
        exact=False,
        before=stored,
        after=stored - report.garbage - plan.saved,
        waiting=report.garbage,
        written=plan.after,
    )
