"""Optimising families in tests, and that they come back."""

from __future__ import annotations

from pathlib import Path

from models import read_folder

from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.transfer.pull import pull


def optimise_all(vault: LocalVault) -> tuple[int, int]:
    """Optimises until there is nothing left; returns the families changed and the bytes saved."""
    cursor: int | None = 0
    changed = saved = 0
    while cursor is not None:
        step = vault.optimise(cursor)
        assert step.after <= step.before
        changed += step.changed
        saved += step.before - step.after
        cursor = step.cursor
    return changed, saved


def check_family(vault: LocalVault, models: list[Path], out: Path) -> None:
    """Checks that org/m0, org/m1, … come back as the models, and nothing is amiss."""
    assert vault.check().problems == ()
    for i, model in enumerate(models):
        pull(vault, f"org/m{i}", out / f"m{i}")
        assert read_folder(out / f"m{i}") == read_folder(model)
