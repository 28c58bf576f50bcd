"""What operations cost as a vault grows: processor time and statements, and by which power.

    python -m weightvault.benchmarks.serving.growth [--references 10000 100000 1000000] [--save]

The vaults are made up (large_vaults.py), in SQLite and in PostgreSQL, with statistics: families of
100 models, a base of 100 tensors, of which each other has 50 as they are and 50 as deltas. A row
has the processor seconds of one operation (with those of PostgreSQL's process for it) and how many
statements it runs; the rows at the end have the exponents by which the seconds grow from the
smallest vault to the largest. --save writes results/growth.csv.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import event, text

from ...dedup.local_vault import LocalVault
from ...store.backends.local import LocalBackend
from ...store.catalogue.catalogue import Catalogue, open_catalogue
from ..support.large_vaults import Shape, make_vault
from ..support.machine import RESULTS, save_rows
from ..support.services import running_services
from .growth_operations import OPERATIONS

OUT = RESULTS / "growth.csv"
_TENSORS = 100
_SHARED = 50
# Short operations are repeated until they have taken so long, so that the clock says something.
_LEAST_SECONDS = 0.2
_MOST_ROUNDS = 50
# Of _spent, twice: where the database's processes are is asked.
_OWN_STATEMENTS = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor seconds and statements of one run."""

    cpu_s: float
    statements: int


def main() -> None:
    """Runs the benchmark, and records it if told to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--references", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--only", nargs="+", choices=OPERATIONS, help="operations to run")
    parser.add_argument("--save", action="store_true", help="write results/growth.csv")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for row in run(options.references, options.databases, options.only or list(OPERATIONS)):
        print(row, flush=True)
        rows.append(row)
    for row in fit(rows):
        print(row, flush=True)
        rows.append(row)
    if options.save:
        save_rows(OUT, rows)


def run(
    references: Sequence[int], databases: Sequence[str], names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yields a row for each database, size and operation."""
    # With workers of its own PostgreSQL would spread a scan over processes that are not counted.
    os.environ["PGOPTIONS"] = "-c max_parallel_workers_per_gather=0 -c jit=off"
    for database in databases:
        for count in references:
            with ExitStack() as stack:
                root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="growth-")))
                url = f"sqlite:///{root / 'catalogue.sqlite'}"
                if database == "postgresql":
                    url = stack.enter_context(running_services()).catalogue
                shape = Shape(max(2, count // _TENSORS), tensors=_TENSORS, shared=_SHARED)
                facts = make_vault(url, root / "objects", shape)
                vault = stack.enter_context(_opened(url, root))
                for name in names:
                    cost = measure(vault.catalogue, partial(OPERATIONS[name], vault, shape))
                    yield {
                        "database": database,
                        "references": facts["references"],
                        "operation": name,
                        "cpu_s": round(cost.cpu_s, 6),
                        "statements": cost.statements,
                        "load": round(os.getloadavg()[0], 1),
                    }


@contextmanager
def _opened(url: str, root: Path) -> Iterator[LocalVault]:
    catalogue = open_catalogue(url)
    with catalogue.engine.begin() as connection:
        # One chunk in ten waits to be encoded again, as after many uploads.
        connection.execute(
            text("INSERT INTO uncoded SELECT id, 0 FROM chunks WHERE id % 10 = 0 AND level > 0")
        )
        connection.exec_driver_sql("ANALYZE")
    vault = LocalVault(LocalBackend(root / "objects", fsync=False), catalogue, scratch=root)
    try:
        yield vault
    finally:
        vault.close()


def measure(catalogue: Catalogue, work: Callable[[], object]) -> Cost:
    """Returns what one run of `work` costs, after one that nobody counts."""
    work()
    counted = [0]

    def count(*_: object) -> None:
        counted[0] += 1

    event.listen(catalogue.engine, "before_cursor_execute", count)
    try:
        once = _time(catalogue, work, 1)
        statements = counted[0] - _OWN_STATEMENTS * (catalogue.engine.dialect.name != "sqlite")
        rounds = min(_MOST_ROUNDS, int(_LEAST_SECONDS / max(once, 1e-6)))
        seconds = _time(catalogue, work, rounds) / rounds if rounds > 1 else once
    finally:
        event.remove(catalogue.engine, "before_cursor_execute", count)
    return Cost(seconds, statements)


def _time(catalogue: Catalogue, work: Callable[[], object], rounds: int) -> float:
    before = _spent(catalogue)
    for _ in range(rounds):
        work()
    return _spent(catalogue) - before


def _spent(catalogue: Catalogue) -> float:
    """Returns the processor seconds of this process and of the database's processes for it."""
    own = time.process_time()
    if catalogue.engine.dialect.name == "sqlite":
        return own
    with catalogue.engine.connect() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    server = psutil.Process(pid).parent()
    if server is None:
        raise RuntimeError("the process of PostgreSQL is gone")
    return own + sum(_seconds_of(child.pid) for child in server.children())


def _seconds_of(pid: int) -> float:
    """Returns the processor seconds of a process, more finely than in ticks; 0 once it has ended"""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except FileNotFoundError:
        return 0.0


def fit(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields for each database and operation the exponent of its seconds, by least squares."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["database"], row["operation"]), []).append(row)
    for (database, name), group in groups.items():
        if len(group) > 1:
            found = slope([(row["references"], row["cpu_s"]) for row in group])
            yield {"database": database, "operation": name, "exponent": round(found, 2)}


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Returns the power by which the second of each pair grows with the first."""
    logs = [(math.log(x), math.log(max(y, 1e-9))) for x, y in points]
    means = [sum(values) / len(logs) for values in zip(*logs, strict=True)]
    above = sum((x - means[0]) * (y - means[1]) for x, y in logs)
    return above / sum((x - means[0]) ** 2 for x, _ in logs)


if __name__ == "__main__":
    main()
