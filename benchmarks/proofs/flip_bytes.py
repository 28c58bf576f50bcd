"""Flips every byte of everything a small store holds, one at a time, and looks at what is said.

    python -m weightvault.benchmarks.proofs.flip_bytes out.csv

Each byte of every object is flipped in one bit, its object read as a scrub does: it must be found.
A sample of the bytes of each region of each object (`--tries` of a region) goes all the way, in a
copy of the store: scrub, repair, collections, scrub. What the scrub names must be exactly the files
that cannot be read, what the repair calls lost exactly those that still cannot, and the rest must
be clean. The store has a base kept twice, tunes on it, a model alone, traces of a deleted one, and
a xorb.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from ..support.machine import save_rows
from ..support.tests_support import load_helper


def main() -> int:
    """Flips all; returns 1 if a flip was not found, or its meaning was told wrongly."""
    parser = argparse.ArgumentParser(description="Flips every byte of a small store.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--tries", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    flips, vaults = load_helper("flips"), load_helper("vaults")
    rng = random.Random(options.seed)
    rows: dict[str, dict[str, Any]] = defaultdict(lambda: dict.fromkeys(COLUMNS, 0))
    with tempfile.TemporaryDirectory(prefix="flip-bytes-") as folder:
        root = Path(folder)
        template = root / "store"
        flips.make_store(template, root / "sources")
        objects = template / "objects"
        vault = vaults.open_local(template)
        for path in sorted(p for p in objects.rglob("*") if p.is_file()):
            key = path.relative_to(objects).as_posix()
            whole = path.read_bytes()
            for region in flips.regions_of(key, whole):
                row = rows[region.name]
                row["bytes"] += region.stop - region.start
                for at in range(region.start, region.stop):
                    flips.flip(path, at, 1 << rng.randrange(8))
                    row["found"] += flips.is_found(vault, key)
                    path.write_bytes(whole)
                for _ in range(options.tries):
                    at = rng.randrange(region.start, region.stop)
                    count(row, flips.try_flip(template, root / "copy", key, at))
        vault.close()
    save_rows(options.out, [{"region": name, **row} for name, row in sorted(rows.items())])
    wrong = {
        name: row
        for name, row in rows.items()
        if row["found"] < row["bytes"]
        or not row["tried"] == row["named_exactly"] == row["lost_exactly"] == row["clean_at_last"]
    }
    total = sum(row["bytes"] for row in rows.values())
    tried = sum(row["tried"] for row in rows.values())
    print(f"{total} bytes flipped, {tried} of them repaired; regions with problems: {wrong}")
    return int(bool(wrong))


COLUMNS = [
    "bytes",
    "found",
    "tried",
    "files_unreadable",
    "named_exactly",
    "files_lost_after_repair",
    "lost_exactly",
    "clean_at_last",
]


def count(row: dict[str, Any], outcome: Any) -> None:
    """Adds what came of one flip."""
    row["tried"] += 1
    row["files_unreadable"] += len(outcome.unreadable)
    row["named_exactly"] += outcome.named == outcome.unreadable
    row["files_lost_after_repair"] += len(outcome.still)
    row["lost_exactly"] += outcome.lost == outcome.still <= outcome.unreadable
    row["clean_at_last"] += outcome.clean


if __name__ == "__main__":
    sys.exit(main())
