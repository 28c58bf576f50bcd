"""Builds the catalogue of many small models anew from the objects, and compares the two.

    python -m weightvault.benchmarks.proofs.rebuild --models 1000 out.csv

The models are of families of ten. Some have several commits, some were deleted and some of those
brought back; the rest of their bytes is collected, and families are planned anew. Then every table
of the rebuilt catalogue must have the rows that it had, but for what is no fact about the store
(tests/support/catalogue_rows.py names it). The same with the database lost altogether; then it is
also not known how the vault grew, nor that objects are gone that somebody began to remove minutes
ago.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ...dedup.local_vault import LocalVault
from ...dedup.maintenance.gc import Collector
from ...dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from ...dedup.maintenance.undelete_repo import undelete
from ...dedup.transfer.push import push
from ..support.machine import save_rows
from ..support.tests_support import load_helper
from ..support.tiny_models import write_tiny_model
from ..support.vaults import open_vault


def build(vault: LocalVault, root: Path, models: int) -> None:
    """Pushes and deletes, brings back, plans and collects."""
    for i in range(models):
        push(vault, write_tiny_model(root / "m" / str(i), i), f"org/m{i}")
        if i % 5 == 0:
            push(vault, write_tiny_model(root / "m" / f"{i}+", i + 3), f"org/m{i}", "main")
        if i % 7 == 0:
            vault.delete_repo(f"org/m{i}")
        if i % 21 == 0:
            undelete(vault, f"org/m{i}")
    cursor: int | None = 0
    while cursor is not None:
        cursor = vault.optimise(cursor).cursor
    Collector(vault, grace_seconds=0, dead_share=0.3).run()


def compare(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Returns a row for each table: its rows, and those that only one of the two has."""
    return [
        {
            "table": table,
            "rows": len(rows),
            "lost": len(set(rows) - set(after[table])),
            "invented": len(set(after[table]) - set(rows)) + abs(len(rows) - len(after[table])),
        }
        for table, rows in before.items()
    ]


def main() -> int:
    """Runs it; returns 1 if a table differs."""
    parser = argparse.ArgumentParser(description="Builds a catalogue anew and compares.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", type=int, default=1000)
    options = parser.parse_args()
    read_rows = load_helper("catalogue_rows").read_rows
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="rebuild-") as folder:
        root = Path(folder)
        vault = open_vault(root)
        build(vault, root, options.models)
        before = read_rows(vault.catalogue)
        started = time.monotonic()
        found = rebuild_catalogue(vault.backend, vault.catalogue)
        seconds = time.monotonic() - started
        rows += [{"way": "rebuilt", **row} for row in compare(before, read_rows(vault.catalogue))]
        vault.close()
        for file in root.glob("catalogue.sqlite*"):
            file.unlink()
        vault = open_vault(root)
        found_rows = read_rows(vault.catalogue)
        for table in ("days", "tombstones"):
            del before[table]
        rows += [{"way": "lost", **row} for row in compare(before, found_rows)]
        vault.close()
    save_rows(options.out, rows)
    differing = [row for row in rows if row["lost"] or row["invented"]]
    print(
        f"{found.repos} repos, {found.commits} commits and {found.packs} packs from "
        f"{found.entries} journal entries in {seconds:.1f} s; tables that differ: {differing}"
    )
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())
