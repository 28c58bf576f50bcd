"""The journal: one small object per change of a ref, so that the object store knows all refs.

An entry is written after the packs and the manifest and before the catalogue's transaction: once
it is durable the change will be seen, if not now then when a catalogue next opens the vault. The
same replay builds a catalogue from nothing (ARCHITECTURE.md, "The journal"; FORMAT.md, Journal).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from ....store.backend import Backend
from ....store.cancel import check_cancelled
from ....store.catalogue.access.quotas import put_limits
from ....store.catalogue.access.retention import forget_commits, put_rules
from ....store.catalogue.catalogue import Catalogue
from ....store.catalogue.files.hashes import HashRow, record_hashes
from ....store.catalogue.files.loose_files import LooseRow, NewLoose, add_loose
from ....store.catalogue.moved_frames import replay_moves, settle_chunks
from ....store.catalogue.refs import change_ref, set_public
from ....store.catalogue.tables.database import MakeEntry
from ....store.catalogue.tables.entry_keys import EntryKey
from ....store.catalogue.tables.rows import CommitRow, SketchRow, batches
from ....store.catalogue.tokens import put_token
from ....store.catalogue.tombstones import (
    catalogue_id,
    lift_tombstones,
    list_tombstones,
    replay_removal,
    set_tombstones,
)
from ....store.errors import CorruptObject, NotFound, StoreError
from ....store.object_keys import JOURNAL, PACKS, manifest_key, name_of, pack_key, sketches_key
from ....store.packs import PackEntry, read_index
from ...errors import Corrupt, VaultError
from ...model.files.manifest import Manifest, manifest_name, parse_manifest
from ...model.files.rows import chunk_uses, file_row
from ...model.journal_entries import (
    AnyEntry,
    Change,
    Entry,
    Forgotten,
    Loose,
    Moves,
    QuotaChange,
    RefChange,
    RetentionChange,
    TokenChange,
    Tombs,
    Visibility,
    key_at,
    key_time,
    read_entry,
)
from ...progress import Progress
from .replay_rules import LaterEntries
from .writing import TICK_SECONDS

# Clocks of several writers differ; entries this much older than the newest one known are looked
# at again.
CLOCK_MARGIN_SECONDS = 3600
# Small objects: on S3 each takes a round trip, and connections are kept for as many.
_READERS = 16


def catch_up(backend: Backend, catalogue: Catalogue, progress: Progress | None = None) -> int:
    """Brings a catalogue up to date with the journal; returns how many entries were new to it.

    That is none as a rule, all of them for a new catalogue, and a few where another machine
    writes to the same store or a server died between the entry and its transaction.
    """
    listed, entries = _read_new(backend, catalogue, _resume_key(catalogue))
    new = list(entries)
    if new:
        learn_packs(backend, catalogue, progress=progress)
    younger = _read_younger(backend, listed, new)
    # What a repo had before it was deleted may have been collected since.
    deleted = {e.repo: k for k, e in entries.items() if isinstance(e, Entry) and not e.commit}
    soon = LaterEntries((k, e) for k, e in entries.items() if isinstance(e, Forgotten))
    with _showing(progress, "replaying the journal", sum(listed[key] for key in new)) as advance:
        for key, entry in entries.items():
            repo = getattr(entry, "repo", "")
            gone = key < deleted.get(repo, "") or younger.delete(repo, key)
            if (
                isinstance(entry, Entry)
                and entry.commit
                and (gone or _is_forgotten(entry.commit, key, soon, younger))
            ):
                # What else is said of the repo in between may not be for one that is not there.
                catalogue.pass_entry(key, repo="" if gone else repo)
                # Other repos may have the same files, whose hashes are told once.
                record_hashes(catalogue, entry.hashes)
            elif isinstance(entry, Loose):
                _apply_loose(backend, catalogue, key, entry, deleted=gone)
            else:
                apply_entry(backend, catalogue, key, entry, younger)
            advance(listed[key])
    return len(new)


def _is_forgotten(commit: CommitRow, key: str, *told: LaterEntries) -> bool:
    return any(later.forget(commit.repo, commit.oid, key) for later in told)


def _read_new(
    backend: Backend, catalogue: Catalogue, start: str
) -> tuple[dict[str, int], dict[EntryKey, AnyEntry]]:
    """Returns the entries there are after the key `start`, with their sizes, and those of them that
    are new, in order. Where one of these names an older entry that is new, too, all begins there:
    its writer's clock was far behind."""
    listed = {info.key: info.size for info in backend.list(JOURNAL, after=start)}
    unknown = sorted(listed.keys() - catalogue.entries_after(start))
    entries = dict(read_entries(backend, unknown))
    named = {key for entry in entries for key in entry.after if key <= start}
    older = [key for key in catalogue.unknown_entries(named) if backend.exists(key)]
    if older:
        return _read_new(backend, catalogue, key_at(max(0.0, key_time(older[0]) - TICK_SECONDS)))
    return listed, entries


def _read_younger(backend: Backend, listed: Iterable[str], new: Sequence[str]) -> LaterEntries:
    """Reads those of the `listed` entries that are younger than one that is new, and known."""
    found = []
    for key in sorted(set(listed) - set(new)) if new else ():
        if key > new[0]:
            found += _read_sound(backend, key)
    return LaterEntries(found)


def _read_sound(backend: Backend, key: str) -> list[tuple[EntryKey, AnyEntry]]:
    """Reads an entry; nothing where it is damaged, which is for a repair to write again."""
    try:
        return list(read_entries(backend, [key]))
    except (NotFound, CorruptObject):
        return []
    except StoreError:
        # The store does not answer, which says nothing about the entry.
        raise
    except VaultError:
        return []


@contextmanager
def _showing(
    progress: Progress | None, task: str, total_bytes: int
) -> Iterator[Callable[[int], None]]:
    shown = progress if progress and total_bytes else Progress()
    shown.begin(task, total_bytes)
    try:
        yield shown.advance
    finally:
        shown.end()


def read_entries(backend: Backend, keys: Iterable[str]) -> Iterator[tuple[EntryKey, AnyEntry]]:
    """Yields entries with their keys, several being fetched at a time."""
    with ThreadPoolExecutor(_READERS, "journal") as readers:
        for batch in batches(list(keys)):
            check_cancelled()
            for key, data in zip(batch, readers.map(backend.get, batch), strict=True):
                yield read_entry(key, data)


def list_entries(backend: Backend) -> Iterator[tuple[EntryKey, AnyEntry]]:
    """Yields the whole journal in order."""
    return read_entries(backend, list_keys(backend))


def list_keys(backend: Backend) -> list[str]:
    """Returns the keys of all entries, in order."""
    return [info.key for info in backend.list(JOURNAL)]


def apply_entry(
    backend: Backend,
    catalogue: Catalogue,
    key: str,
    entry: AnyEntry,
    younger: LaterEntries,
) -> None:
    """Carries out one entry of the journal in the catalogue, in one transaction, as far as nothing
    `younger` that it has carried out already stands against it."""
    if isinstance(entry, Moves):
        replay_moves(catalogue, entry.pack, entry.chunks, key)
    elif isinstance(entry, Tombs):
        _apply_tombs(catalogue, key, entry)
    elif isinstance(entry, Loose):
        _apply_loose(backend, catalogue, key, entry)
    elif isinstance(entry, Change):
        of_repo = isinstance(entry, RefChange | Visibility)
        if of_repo and (younger.decide(entry, key) or younger.delete(entry.repo, key)):
            catalogue.pass_entry(key)
        else:
            apply_change(catalogue, key, entry)
    elif entry.commit is None:
        catalogue.delete_repo(entry.repo, key, keep=younger.commits(entry.repo, key))
    else:
        moves = not younger.decide(entry, key)
        _apply_commit(backend, catalogue, key, entry.commit, entry.hashes, moves=moves)


def apply_change(catalogue: Catalogue, key: str | MakeEntry, entry: Change) -> None:
    """Carries out an entry that says all itself, in one transaction that also writes it if that is
    still to be done."""
    if isinstance(entry, TokenChange):
        put_token(catalogue, entry.row, key)
    elif isinstance(entry, QuotaChange):
        put_limits(catalogue, entry.namespace, entry.limits, key)
    elif isinstance(entry, RetentionChange):
        put_rules(catalogue, entry.namespace, entry.rules, key)
    elif isinstance(entry, Forgotten):
        forget_commits(catalogue, entry.repo, entry.parents, key)
    elif isinstance(entry, RefChange):
        change_ref(catalogue, entry.repo, entry.kind, entry.name, entry.target, entry.message, key)
    else:
        set_public(catalogue, entry.repo, entry.public, key)


def _apply_tombs(catalogue: Catalogue, key: str, entry: Tombs) -> None:
    if entry.stage == "retire":
        set_tombstones(catalogue, entry.keys, entry.created, key)
    elif entry.stage == "restore":
        lift_tombstones(catalogue, entry.keys, key)
    else:
        foreign = entry.by != catalogue_id(catalogue)
        replay_removal(catalogue, entry.keys, entry.created, key, foreign=foreign)


def _apply_commit(
    backend: Backend,
    catalogue: Catalogue,
    key: str,
    row: CommitRow,
    hashes: Collection[HashRow],
    *,
    moves: bool,
) -> None:
    try:
        manifest = load_manifest(backend, row.manifest)
    except (NotFound, Corrupt):
        # Nobody knows its files any more; a check says so, and everything else can be read.
        catalogue.add_commit(row, [], {}, key, hashes=hashes, partial=True, moves=moves)
        return
    values = row, list(map(file_row, manifest.files)), chunk_uses(manifest), key
    try:
        catalogue.add_commit(*values, hashes=hashes, moves=moves)
    except NotFound:
        # Its packs were being removed when it was made, and are still there: whoever removes
        # them looks at the journal once more before deleting anything.
        learn_packs(backend, catalogue, removed_too=True)
        # What is lost all the same must not keep anybody from the rest, of it and of others.
        catalogue.add_commit(*values, hashes=hashes, partial=True, moves=moves)


def _apply_loose(
    backend: Backend, catalogue: Catalogue, key: str, entry: Loose, *, deleted: bool = False
) -> None:
    """What has expired may be gone, and it is gone for good where its repo was `deleted` since."""
    if entry.expires > time.time():
        with suppress(NotFound, Corrupt):
            manifest = load_manifest(backend, entry.manifest)
            row = loose_row(entry, manifest)
            new = [NewLoose(row, entry.git_sha1, list(manifest.digests()))]
            try:
                add_loose(catalogue, new, key)
            except NotFound:
                if deleted:
                    raise
                # As with those of a commit.
                learn_packs(backend, catalogue, removed_too=True)
                add_loose(catalogue, new, key)
            return
    catalogue.pass_entry(key)


def loose_row(entry: Loose, manifest: Manifest) -> LooseRow:
    """Returns what the catalogue keeps of an upload. Raises Corrupt unless it is one file."""
    if len(manifest.files) != 1:
        raise Corrupt(f"manifest {entry.manifest} is not that of one file")
    (file,) = manifest.files
    found = (file.digest, file.recipe(), file.size)
    return LooseRow(entry.sha256, entry.repo, *found, entry.manifest, entry.expires)


def load_manifest(backend: Backend, name: str) -> Manifest:
    """Reads the manifest called `name`. Raises Corrupt unless its bytes hash to its name."""
    return parse_manifest(read_manifest(backend, name), stored=True)


def read_manifest(backend: Backend, name: str) -> bytes:
    """Reads the bytes of the manifest called `name`. Raises Corrupt unless they hash to that."""
    data = backend.get(manifest_key(name))
    if manifest_name(data) != name:
        raise Corrupt(f"manifest {name} is damaged")
    return data


def learn_packs(
    backend: Backend,
    catalogue: Catalogue,
    *,
    removed_too: bool = False,
    progress: Progress | None = None,
) -> None:
    """Records the packs that the catalogue does not know, from their own indexes. One that is
    being removed counts as known unless `removed_too`."""
    known = catalogue.pack_names()
    if not removed_too:
        tombs = list_tombstones(catalogue)
        known |= {k.rpartition("/")[2] for k, tomb in tombs.items() if tomb.removed is not None}
    touched: set[bytes] = set()
    sizes = {name_of(info.key): info.size for info in backend.list(PACKS)}
    new = [name for name in sizes if name not in known]
    with _showing(progress, "learning packs", sum(sizes[name] for name in new)) as advance:
        for name in new:
            advance(sizes[name])
            try:
                entries = read_index(_range_reader(backend, pack_key(name)), sizes[name])
            except (CorruptObject, NotFound):
                # Torn by a failing store, or collected since it was listed: it is as if it were
                # not there. Commits that need it say so.
                continue
            catalogue.add_pack(name, sizes[name], entries, read_sketch_rows(backend, name, entries))
            touched.update(digest for e in entries for digest in (e.digest, *e.inputs))
    # Packs come in any order, so only now is it known what needs each chunk.
    settle_chunks(catalogue, touched)


def read_sketch_rows(backend: Backend, pack: str, entries: Sequence[PackEntry]) -> list[SketchRow]:
    """Returns the sketches kept beside a pack. Without them its chunks are merely not found as
    bases, so their loss stops nothing."""
    # Only catalogues that are behind need these, and numpy with them.
    from ...model.sketch_file import parse_sketches
    from ...similarity.candidates import sketch_row

    try:
        found = parse_sketches(backend.get(sketches_key(pack)), entries)
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
    return key_at(max(0.0, key_time(last) - CLOCK_MARGIN_SECONDS))
