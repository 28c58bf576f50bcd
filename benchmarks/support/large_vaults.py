"""Makes large vaults of made-up rows, for what only many repos can show.

The catalogue has the real tables, filled in bulk, in SQLite or PostgreSQL; the store has an object
for each pack, manifest and journal entry: sparse files of the sizes that rows tell. So catalogue
and listings add up, and content is not there. Repos are families of a base and tunes, and a delta
has the sketch of its base.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from blake3 import blake3

from ...codecs.dtypes import find_dtype
from ...codecs.frame import CODEC_IDS
from ...dedup.model.store_marker import write_marker
from ...store.backends.local import LocalBackend
from ...store.catalogue.catalogue import Catalogue, open_catalogue
from ...store.catalogue.sketches.bands import band_values
from ...store.catalogue.tables.schema import BANDS
from ...store.repo_names import RepoName

_FAMILY = 100
_RAW_BYTES, _ALONE_BYTES, _DELTA_BYTES = 5_242_880, 3_500_000, 1_000_000
_FRAMES_PER_PACK = 60
_SHARDS = 4
_START = 1_750_000_000.0
_BF16 = find_dtype("BF16").id
_KIND = 1
_ROWS_AT_ONCE = 100_000
_COLUMNS = {
    "packs": "id name bytes frame_bytes",
    "chunks": "id digest pack_id offset frame_bytes raw_bytes codec inputs dtype level",
    "chunk_inputs": "chunk_id position input",
    "sketches": "chunk_id kind dtype raw_bytes bits words "
    + " ".join(f"band{i}" for i in range(BANDS)),
    "repos": "id name kind namespace newest",
    "commits": "id repo_id oid branch parent manifest base created",
    "refs": "repo_id name commit_id",
    "files": "id commit_id path bytes digest recipe tensors format tensor_bytes inlined_bytes",
    "commit_chunks": "commit_id chunk_id uses",
    "journal": "key",
}

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a large vault is like.

    Of the `tensors` of a base its tunes have `shared` as they are and the others as deltas. Every
    second repo has a second commit with the last `again` of its tensors anew, unless that is 0.
    The first `first_family` repos are one family, the others families of a hundred.
    """

    repos: int
    tensors: int
    shared: int
    again: int = 0
    first_family: int = 0

    def base_of(self, repo: int) -> int:
        """The repo that it is a tune of, itself where it is a base; from 0."""
        if repo < self.first_family:
            return 0
        return repo - (repo - self.first_family) % _FAMILY

    def name_of(self, repo: int) -> str:
        """The name of a repo."""
        kind = "base" if self.base_of(repo) == repo else "tune"
        return f"team-{repo % 97:02}/{kind}-{repo:05}"


@dataclass(slots=True)
class _Rows:
    """The rows of a catalogue, by table, as they come to be; and objects by key, with sizes."""

    packs: list[Row] = field(default_factory=list)
    chunks: list[Row] = field(default_factory=list)
    repos: list[Row] = field(default_factory=list)
    commits: list[Row] = field(default_factory=list)
    refs: list[Row] = field(default_factory=list)
    files: list[Row] = field(default_factory=list)
    commit_chunks: list[Row] = field(default_factory=list)
    journal: list[Row] = field(default_factory=list)
    objects: dict[str, int] = field(default_factory=dict)

    @property
    def sketches(self) -> Iterator[Row]:
        """One of each chunk, by which those that are standalone are found."""
        for row in self.chunks:
            bits = row[1] if row[7] is None else row[7]
            bands = band_values(_KIND if row[7] is None else None, bits)
            yield (row[0], _KIND, _BF16, _RAW_BYTES, bits, b"", *bands.values())

    @property
    def chunk_inputs(self) -> Iterator[Row]:
        """The base of each delta."""
        return ((row[0], 0, row[7]) for row in self.chunks if row[7] is not None)


def make_vault(url: str, objects: Path, shape: Shape) -> dict[str, int]:
    """Fills the new database at `url` and the folder `objects`, which may hold the same vault's
    objects already. Returns how many repos, chunks, references and objects there are."""
    made = _make_rows(shape)
    _make_objects(objects, made.objects)
    catalogue = open_catalogue(url)
    write_marker(LocalBackend(objects, fsync=False), catalogue)
    _fill(catalogue, made)
    catalogue.close()
    return {
        "repos": shape.repos,
        "chunks": len(made.chunks),
        "references": len(made.commit_chunks),
        "objects": len(made.objects),
    }


def fill_catalogue(catalogue: Catalogue, shape: Shape) -> None:
    """Fills a new catalogue alone, without any object, and gathers statistics."""
    _fill(catalogue, _make_rows(shape))


def _fill(catalogue: Catalogue, made: _Rows) -> None:
    for table in _COLUMNS:
        _insert(catalogue, table, getattr(made, table))
    with catalogue.engine.begin() as connection:
        if catalogue.engine.dialect.name == "postgresql":
            for table in (table for table in _COLUMNS if _COLUMNS[table].startswith("id ")):
                sequence = f"pg_get_serial_sequence('{table}', 'id')"
                connection.exec_driver_sql(f"SELECT setval({sequence}, max(id)) FROM {table}")
        connection.exec_driver_sql("ANALYZE")


def _make_rows(shape: Shape) -> _Rows:
    made = _Rows()
    bases: dict[int, list[int]] = {}
    for repo in range(shape.repos):
        base = shape.base_of(repo)
        if base == repo:
            bases[repo] = mine = [_add_chunk(made, None) for _ in range(shape.tensors)]
        else:
            own = [_add_chunk(made, on) for on in bases[base][shape.shared :]]
            mine = bases[base][: shape.shared] + own
        _add_commit(made, repo, mine)
        if shape.again and repo % 2:
            anew = [_add_chunk(made, on) for on in bases[base][-shape.again :]]
            _add_commit(made, repo, mine[: -shape.again] + anew)
        name, newest = RepoName.of(shape.name_of(repo)), len(made.commits)
        made.repos.append((repo + 1, str(name), name.prefix, name.namespace, newest))
        made.refs.append((repo + 1, "main", newest))
    for _, name, size, _ in made.packs:
        made.objects[f"packs/{name[:2]}/{name}"] = size
        made.objects[f"sketches/{name[:2]}/{name}"] = 20 + 588 * _FRAMES_PER_PACK
    return made


def _add_chunk(made: _Rows, base: int | None) -> int:
    number = len(made.chunks) + 1
    pack = (number - 1) // _FRAMES_PER_PACK + 1
    if pack > len(made.packs):
        made.packs.append((pack, _digest("pack", pack).hex(), 0, 0))
    if base is None:
        size, codec, on = _ALONE_BYTES, CODEC_IDS["planes"], None
    else:
        size, codec, on = _DELTA_BYTES, CODEC_IDS["difference"], _digest("chunk", base)
    id_, name, total, frames = made.packs[-1]
    frame = size + number * 7919 % 100_000
    digest = _digest("chunk", number)
    level = 0 if on is None else 1
    made.chunks.append((number, digest, pack, frames, frame, _RAW_BYTES, codec, on, _BF16, level))
    made.packs[-1] = (id_, name, total + frame + 66, frames + frame)
    return number


def _add_commit(made: _Rows, repo: int, chunks: Sequence[int]) -> None:
    id_ = len(made.commits) + 1
    name = _digest("commit", id_).hex()
    created = _START + 86400 * (id_ % 300) + id_
    made.commits.append((id_, repo + 1, name[:40], "main", None, name, None, created))
    made.objects[f"manifests/{name[:2]}/{name}"] = 20 + 38 * len(chunks)
    key = f"journal/{round(created * 1e6):016x}-{name[:16]}"
    made.journal.append((key,))
    made.objects[key] = 350
    length, tensors = _RAW_BYTES * len(chunks) // _SHARDS, len(chunks) // _SHARDS
    shards = [(f"model-{i:05}.safetensors", length, tensors, 1) for i in range(_SHARDS)]
    texts = [(f"{name}.json", 2000, 0, 9) for name in ("config", "tokenizer")]
    for path, size, count, kind in shards + texts:
        digest = _digest("file", path, id_)
        weights = size - 400 if count else 0
        row = (id_, path, size, digest, digest, count, kind, weights, 8)
        made.files.append((len(made.files) + 1, *row))
    made.commit_chunks.extend((id_, chunk, 3) for chunk in chunks)


def _digest(*parts: object) -> bytes:
    return blake3(repr(parts).encode()).digest()


def _insert(catalogue: Catalogue, table: str, rows: Sequence[Row] | Iterator[Row]) -> None:
    columns = _COLUMNS[table].split()
    names = ", ".join(f'"{name}"' for name in columns)
    left = iter(rows)
    raw = catalogue.engine.raw_connection()
    try:
        cursor: Any = raw.cursor()
        if catalogue.engine.dialect.name == "postgresql":
            with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for row in left:
                    copy.write_row(row)
        else:
            marks = ", ".join("?" * len(columns))
            cursor.execute("BEGIN")
            while batch := list(islice(left, _ROWS_AT_ONCE)):
                cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", batch)
        raw.commit()
    finally:
        raw.close()


def _make_objects(root: Path, sizes: dict[str, int]) -> None:
    for folder in {(root / key).parent for key in sizes}:
        folder.mkdir(parents=True, exist_ok=True)
    for key, size in sizes.items():
        with (root / key).open("wb") as file:
            file.truncate(size)
