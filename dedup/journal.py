"""The journal: one small object per change of a ref, so that the object store knows all refs.

An entry is written after the packs and the manifest and before the catalogue's transaction: once
it is durable the change will be seen, if not now then when a catalogue next opens the vault. The
same replay builds a catalogue from nothing (ARCHITECTURE.md, "The journal"; FORMAT.md, Journal).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from blake3 import blake3

from ..store.backend import Backend
from ..store.catalogue import Catalogue
from ..store.errors import NotFound
from ..store.moves import replay_moves, settle_chunks
from ..store.pack import pack_key, read_index
from ..store.rows import CommitRow, FileRow, SketchRow
from .candidates import sketch_row
from .errors import Corrupt, VaultError
from .manifest import Manifest, manifest_key, manifest_name, parse_manifest
from .names import check_branch, check_repo, is_commit_id
from .sketchfile import parse_sketches, sketches_key

VERSION = 1
_PREFIX = "journal/"

# Clocks of several writers differ; entries this much older than the newest one known are looked
# at again.
CLOCK_MARGIN_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Entry:
    """A change of refs: a commit, or, with no commit, the deletion of the repo."""

    repo: str
    created: float
    commit: CommitRow | None = None


@dataclass(frozen=True, slots=True)
class Moves:
    """The frames of a pack took the place of those that these chunks had before."""

    pack: str
    chunks: tuple[bytes, ...]
    created: float


def commit_row(
    repo: str, branch: str, manifest: str, parent: str | None, base: str | None
) -> CommitRow:
    """Returns the row of a new commit, its id the hash of what it is made of."""
    created = time.time()
    identity = json.dumps([repo, branch, manifest, parent, base, created])
    oid = blake3(identity.encode()).hexdigest()[:40]
    return CommitRow(oid, repo, branch, parent, manifest, base, created)


def deletion(repo: str) -> Entry:
    """Returns the entry that deletes a repo now."""
    return Entry(repo, time.time())


def write_entry(backend: Backend, entry: Entry | Moves) -> str:
    """Stores an entry durably and returns its key. Keys sort by time."""
    data = _pack_entry(entry)
    key = f"{_PREFIX}{_time_part(entry.created)}-{blake3(data).hexdigest()[:16]}"
    backend.put(key, data)
    return key


def catch_up(backend: Backend, catalogue: Catalogue) -> int:
    """Brings a catalogue up to date with the journal; returns how many entries were new to it.

    That is none as a rule, all of them for a new catalogue, and a few where another machine
    writes to the same store or a server died between the entry and its transaction.
    """
    keys = [info.key for info in backend.list(_PREFIX, after=_resume_key(catalogue))]
    new = catalogue.unknown_entries(keys)
    if new:
        _learn_packs(backend, catalogue)
    for key in new:
        apply_entry(backend, catalogue, key, _parse_entry(key, backend.get(key)))
    return len(new)


def apply_entry(backend: Backend, catalogue: Catalogue, key: str, entry: Entry | Moves) -> None:
    """Carries out one entry in the catalogue, in one transaction."""
    if isinstance(entry, Moves):
        replay_moves(catalogue, entry.pack, entry.chunks, key)
        return
    if entry.commit is None:
        catalogue.delete_repo(entry.repo, key)
        return
    manifest = load_manifest(backend, entry.commit.manifest)
    catalogue.add_commit(entry.commit, list(_file_rows(manifest)), list(manifest.digests()), key)


def load_manifest(backend: Backend, name: str) -> Manifest:
    """Reads the manifest called `name`. Raises Corrupt unless its bytes hash to its name."""
    data = backend.get(manifest_key(name))
    if manifest_name(data) != name:
        raise Corrupt(f"manifest {name} is damaged", "run `weightvault check`")
    return parse_manifest(data)


def _file_rows(manifest: Manifest) -> Iterator[FileRow]:
    for entry in manifest.files:
        tensors = sum(1 for _ in entry.tensors)
        yield FileRow(entry.path, entry.size, entry.digest, entry.recipe(), tensors)


def _learn_packs(backend: Backend, catalogue: Catalogue) -> None:
    """Records the packs that the catalogue does not know, from their own indexes."""
    known = catalogue.pack_names()
    touched: set[bytes] = set()
    for info in backend.list("packs/"):
        name = info.key.rpartition("/")[2]
        if name not in known:
            entries = read_index(_range_reader(backend, pack_key(name)), info.size)
            catalogue.add_pack(name, info.size, entries, _sketch_rows(backend, name))
            touched.update(e.base_digest for e in entries if e.base_digest is not None)
            touched.update(e.digest for e in entries)
    # Packs come in any order, so only now is it known what each base may be.
    settle_chunks(catalogue, touched)


def _sketch_rows(backend: Backend, pack: str) -> list[SketchRow]:
    """Returns the sketches kept beside a pack. Without them its chunks are merely not found as
    bases, so their loss stops nothing."""
    try:
        found = parse_sketches(backend.get(sketches_key(pack)))
    except (NotFound, Corrupt):
        return []
    return [sketch_row(digest, sketch) for digest, sketch in found.items()]


def _range_reader(backend: Backend, key: str):
    def read(start: int, stop: int) -> bytes:
        return backend.get(key, start, stop)

    return read


def _resume_key(catalogue: Catalogue) -> str:
    last = catalogue.last_entry()
    if last is None:
        return ""
    microseconds = int(last.removeprefix(_PREFIX).partition("-")[0], 16)
    return _PREFIX + _time_part(max(0.0, microseconds / 1e6 - CLOCK_MARGIN_SECONDS))


def _time_part(seconds: float) -> str:
    return f"{round(seconds * 1e6):016x}"


def _pack_entry(entry: Entry | Moves) -> bytes:
    if isinstance(entry, Moves):
        moves = {"pack": entry.pack, "chunks": [digest.hex() for digest in entry.chunks]}
        outline = {"version": VERSION, "created": entry.created, "moves": moves}
    else:
        outline = {"version": VERSION, "repo": entry.repo, "created": entry.created}
        if entry.commit is not None:
            outline["commit"] = asdict(entry.commit)
    return json.dumps(outline, separators=(",", ":"), sort_keys=True).encode()


def _parse_entry(key: str, data: bytes) -> Entry | Moves:
    """Reads an entry; raises Corrupt unless it is one and its key holds its hash."""
    if not key.endswith("-" + blake3(data).hexdigest()[:16]):
        raise Corrupt(f"journal entry {key} is damaged")
    try:
        outline = json.loads(data)
        if outline["version"] != VERSION:
            raise VaultError(f"journal entry {key} is too new", "upgrade weightvault")
        entry = _parse_outline(outline)
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"journal entry {key} is malformed: {error}") from error
    if isinstance(entry, Entry) and entry.commit is not None:
        _check_commit(key, entry.commit)
    return entry


def _parse_outline(outline: dict[str, Any]) -> Entry | Moves:
    created = float(outline["created"])
    if "moves" in outline:
        moves = outline["moves"]
        pack_key(moves["pack"])
        return Moves(moves["pack"], tuple(map(bytes.fromhex, moves["chunks"])), created)
    commit = CommitRow(**outline["commit"]) if "commit" in outline else None
    return Entry(check_repo(outline["repo"]), created, commit)


def _check_commit(key: str, commit: CommitRow) -> None:
    check_repo(commit.repo)
    check_branch(commit.branch)
    if not is_commit_id(commit.oid):
        raise Corrupt(f"journal entry {key} has no commit id")
