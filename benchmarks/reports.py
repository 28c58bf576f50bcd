"""Reports on a vault of 10,000 repos and 3 million references: how long, and in how much memory.

    python -m weightvault.benchmarks.reports [--repos 10000] [--folder FOLDER] [--csv FILE]

The catalogue has the real tables, filled in bulk, in SQLite and in PostgreSQL; the store has an
object for each pack, manifest and journal entry: sparse files of their sizes. What is left out is
what no report reads: sketches in the catalogue. Families are of 100 models: a base of 200 tensors,
of which each other has 40 as they are and 160 as deltas; every second model has a second commit
with 60 tensors anew. Each report is made by a process of its own.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from blake3 import blake3
from sqlalchemy import Table

from ..dedup.local import LocalVault
from ..dedup.marker import read_marker, write_marker
from ..dedup.reporting.model import Dimension, Query
from ..store import schema
from ..store.catalogue import Catalogue, open_catalogue
from ..store.local import LocalBackend
from .machine import describe_machine
from .services import running_services

_TENSORS, _SHARED, _AGAIN, _FAMILY = 200, 40, 60, 100
_RAW_BYTES, _ALONE_BYTES, _DELTA_BYTES = 5_242_880, 3_500_000, 1_000_000
_FRAMES_PER_PACK = 60
_START = 1_750_000_000.0
_ROWS_AT_ONCE = 100_000

Row = tuple[Any, ...]


@dataclass(slots=True)
class _Rows:
    """The rows of a catalogue, by table, as they come to be."""

    packs: list[Row] = field(default_factory=list)
    chunks: list[Row] = field(default_factory=list)
    repos: list[Row] = field(default_factory=list)
    commits: list[Row] = field(default_factory=list)
    refs: list[Row] = field(default_factory=list)
    files: list[Row] = field(default_factory=list)
    commit_chunks: list[Row] = field(default_factory=list)
    journal: list[Row] = field(default_factory=list)

    @property
    def references(self) -> int:
        """How many there are."""
        return len(self.commit_chunks)


def make_rows(repos: int) -> _Rows:
    """Returns the rows of a catalogue of so many repos."""
    made = _Rows()
    bases: dict[int, list[int]] = {}
    for repo in range(repos):
        family, number = divmod(repo, _FAMILY)
        made.repos.append((repo + 1, f"org{family % 50:02}/model-{repo:06}"))
        if number == 0:
            bases[family] = [_add_chunk(made, _ALONE_BYTES, None) for _ in range(_TENSORS)]
            mine = bases[family]
        else:
            own = [_add_chunk(made, _DELTA_BYTES, base) for base in bases[family][_SHARED:]]
            mine = bases[family][:_SHARED] + own
        _add_commit(made, repo, mine, 0)
        if repo % 2:
            anew = [_add_chunk(made, _DELTA_BYTES, base) for base in bases[family][-_AGAIN:]]
            _add_commit(made, repo, mine[:-_AGAIN] + anew, 1)
    return made


def _add_chunk(made: _Rows, size: int, base: int | None) -> int:
    number = len(made.chunks) + 1
    pack = (number - 1) // _FRAMES_PER_PACK + 1
    if pack > len(made.packs):
        made.packs.append((pack, blake3(b"pack %d" % pack).hexdigest(), 0, 0))
    frame = size + number * 7919 % 100_000
    codec, on = (6, None) if base is None else (9, _digest(base))
    made.chunks.append((number, _digest(number), pack, 0, frame, _RAW_BYTES, codec, on, 12))
    id_, name, total, frames = made.packs[-1]
    made.packs[-1] = (id_, name, total + frame + 66, frames + frame)
    return number


def _add_commit(made: _Rows, repo: int, chunks: Sequence[int], round_: int) -> None:
    id_ = len(made.commits) + 1
    name = blake3(b"commit %d" % id_).hexdigest()
    created = _START + 86400 * (id_ % 300) + id_
    made.commits.append((id_, repo + 1, name[:40], "main", None, name, None, created))
    size = _RAW_BYTES * len(chunks)
    shards = [(f"model-{i:05}.safetensors", size // 4, 50, 1) for i in range(4)]
    shards += [(f"{name}.json", 2000, 0, 9) for name in ("config", "tokenizer")]
    for path, length, tensors, form in shards:
        digest = blake3(f"{path} {id_}".encode()).digest()
        weights = length - 400 if tensors else 0
        file = (len(made.files) + 1, id_, path, length, digest, digest, tensors)
        made.files.append((*file, form, weights, 8))
    made.commit_chunks.extend((id_, chunk, 3) for chunk in chunks)
    made.journal.append((f"journal/{round((created) * 1e6):016x}-{name[:16]}",))
    if round_:
        made.refs.pop()
    made.refs.append((repo + 1, "main", id_))


def _digest(number: int) -> bytes:
    return blake3(number.to_bytes(8, "little")).digest()


def fill_catalogue(url: str, made: _Rows) -> None:
    """Puts the rows into the tables of a new database."""
    catalogue = open_catalogue(url)
    for name in _Rows.__slots__:
        columns = _columns(name)
        _insert(catalogue, schema.metadata.tables[name], columns, getattr(made, name))
    with catalogue.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
        connection.commit()
    catalogue.close()


def _columns(table: str) -> list[str]:
    left_out = {"commits": {"title", "message", "author"}, "repos": {"public"}}
    every = [column.name for column in schema.metadata.tables[table].columns]
    kept = [name for name in every if name not in left_out.get(table, set())]
    width = {"commits": 8, "repos": 2}.get(table, len(kept))
    return kept[:width]


def _insert(catalogue: Catalogue, table: Table, columns: list[str], rows: list[Row]) -> None:
    names = ", ".join(f'"{name}"' for name in columns)
    left = iter(rows)
    raw = catalogue.engine.raw_connection()
    try:
        cursor: Any = raw.cursor()
        if catalogue.engine.dialect.name == "postgresql":
            with cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            marks = ", ".join("?" * len(columns))
            cursor.execute("BEGIN")
            while batch := list(islice(left, _ROWS_AT_ONCE)):
                cursor.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", batch)
        raw.commit()
    finally:
        raw.close()


def make_objects(root: Path, made: _Rows) -> int:
    """Makes the objects, sparse; returns how many."""
    sizes: dict[str, int] = {}
    for _, name, size, _ in made.packs:
        sizes[f"packs/{name[:2]}/{name}"] = size
        sizes[f"sketches/{name[:2]}/{name}"] = 20 + 588 * _FRAMES_PER_PACK
    for row in made.commits:
        sizes[f"manifests/{row[5][:2]}/{row[5]}"] = 20 + 38 * _TENSORS
    sizes |= {key: 350 for (key,) in made.journal}
    for folder in {(root / key).parent for key in sizes}:
        folder.mkdir(parents=True, exist_ok=True)
    for key, size in sizes.items():
        with (root / key).open("wb") as file:
            file.truncate(size)
    return len(sizes)


def measure(url: str, folder: Path, by: tuple[Dimension, ...]) -> dict[str, Any]:
    """Makes a report in this process; returns its time, its memory, and whether it adds up."""
    backend = LocalBackend(folder, fsync=False)
    vault = LocalVault(backend, open_catalogue(url), scratch=folder.parent)
    cpu, wall = time.process_time(), time.perf_counter()
    report = vault.report(Query(by))
    seconds = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    listed = sum(info.size for info in backend.list())
    sums = {sum(r.stored for r in b.rows) for b in report.breakdowns}
    peak = _peak_kib() / 1024
    return {
        **{name: round(value, 2) for name, value in seconds.items()},
        "peak_mib": round(peak),
        "adds_up": sums == {report.frames} and report.stored == listed,
        "stored": report.stored,
    }


def _peak_kib() -> int:
    """Peak of this process alone: what getrusage tells begins with that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def run(repos: int, databases: Sequence[str], folder: Path) -> Iterator[dict[str, Any]]:
    """Yields a row of results for each database and kind of report. What was made in `folder` by a
    run before is used again; PostgreSQL is filled each time."""
    with ExitStack() as stack:
        for name in databases:
            if name == "sqlite":
                url = f"sqlite:///{folder / 'catalogue.sqlite'}"
            else:
                url = stack.enter_context(running_services()).catalogue
            facts = _make_vault(repos, url, folder)
            for by in (("repo",), get_args(Dimension)):
                yield {
                    "database": name,
                    "by": "+".join(by),
                    **facts,
                    **_measure_apart(url, folder / "objects", by),
                    "load": round(os.getloadavg()[0], 1),
                    **describe_machine(),
                }


def _make_vault(repos: int, url: str, folder: Path) -> dict[str, int]:
    known = folder / "facts.json"
    if known.exists() and url.startswith("sqlite") and (folder / "catalogue.sqlite").exists():
        return json.loads(known.read_text())
    made = make_rows(repos)
    facts = {"repos": repos, "chunks": len(made.chunks), "references": made.references}
    if not known.exists():
        facts["objects"] = make_objects(folder / "objects", made)
        known.write_text(json.dumps(facts))
    fill_catalogue(url, made)
    _adopt(url, folder / "objects")
    return json.loads(known.read_text())


def _adopt(url: str, root: Path) -> None:
    """Makes store and catalogue know each other."""
    backend, catalogue = LocalBackend(root, fsync=False), open_catalogue(url)
    marker = read_marker(backend)
    if marker is None:
        write_marker(backend, catalogue)
    else:
        catalogue.set_store_id(marker.store_id)
    catalogue.close()


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
    parser.add_argument("--csv", type=Path, help="results are added to it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reports-") as temporary:
        folder = options.folder or Path(temporary)
        for row in run(options.repos, options.databases, folder):
            print(row, flush=True)
            if options.csv:
                _append(options.csv, row)


def _append(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
