"""Reports on a vault of 10,000 repos and 3 million references: how long, and in how much memory.

    python -m weightvault.benchmarks.serving.reports [--repos 10000] [--folder FOLDER] [--csv FILE]

The vault is made up (large_vaults.py), in SQLite and in PostgreSQL: families of 100 models, a base
of 200 tensors, of which each other has 40 as they are and 160 as deltas; every second model has a
second commit with 60 tensors anew. Each report is made by a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

from ...dedup.local_vault import LocalVault
from ...dedup.model.report import Dimension, Query
from ...store.backends.local import LocalBackend
from ...store.catalogue.catalogue import open_catalogue
from ..support.large_vaults import Shape, make_vault
from ..support.machine import save_rows
from ..support.services import running_services
from .large_file import read_peak


def measure(url: str, folder: Path, by: tuple[Dimension, ...]) -> dict[str, Any]:
    """Makes a report in this process; returns its time, its memory, and whether it adds up."""
    backend = LocalBackend(folder, fsync=False)
    vault = LocalVault(backend, open_catalogue(url), scratch=folder.parent)
    cpu, wall = time.process_time(), time.perf_counter()
    report = vault.report(Query(by))
    seconds = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    listed = sum(info.size for info in backend.list())
    sums = {sum(r.billed for r in b.rows) for b in report.breakdowns}
    # What getrusage tells begins with the peak of the parent.
    peak = read_peak(os.getpid()) / 2**20
    return {
        **{name: round(value, 2) for name, value in seconds.items()},
        "peak_mib": round(peak),
        "adds_up": sums == {report.frames} and report.stored == listed,
        "stored": report.stored,
    }


def run(repos: int, databases: Sequence[str], folder: Path) -> Iterator[dict[str, Any]]:
    """Yields a row of results for each database and kind of report. What was made in `folder` by a
    run before is used again; PostgreSQL is filled each time."""
    with ExitStack() as stack:
        for name in databases:
            if name == "sqlite":
                url = f"sqlite:///{folder / 'catalogue.sqlite'}"
            else:
                url = stack.enter_context(running_services()).catalogue
            facts = _find_or_make(repos, url, folder)
            for by in (("repo",), get_args(Dimension)):
                yield {
                    "database": name,
                    "by": "+".join(by),
                    **facts,
                    **_measure_apart(url, folder / "objects", by),
                    "load": round(os.getloadavg()[0], 1),
                }


def _find_or_make(repos: int, url: str, folder: Path) -> dict[str, int]:
    known = folder / "facts.json"
    if known.exists() and url.startswith("sqlite") and (folder / "catalogue.sqlite").exists():
        return json.loads(known.read_text())
    facts = make_vault(url, folder / "objects", Shape(repos, tensors=200, shared=40, again=60))
    known.write_text(json.dumps(facts))
    return facts


def _measure_apart(url: str, root: Path, by: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", __spec__.name, "--measure", url, str(root), *by]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    """Runs the benchmark, or with --measure one report of it."""
    if sys.argv[1:2] == ["--measure"]:
        url, root, *by = sys.argv[2:]
        print(json.dumps(measure(url, Path(root), tuple(by))))  # type: ignore[arg-type]
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repos", type=int, default=10_000)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--folder", type=Path, help="where to make the vault, and leave it")
    parser.add_argument("--csv", type=Path, help="where results are written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reports-") as temporary:
        rows: list[dict[str, Any]] = []
        for row in run(options.repos, options.databases, options.folder or Path(temporary)):
            print(row, flush=True)
            rows.append(row)
    if options.csv:
        save_rows(options.csv, rows)


if __name__ == "__main__":
    main()
