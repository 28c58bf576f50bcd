"""Rebuilds damaged small objects: sketches, manifests' places, journal entries, the marker."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from ....codecs.dtypes import BY_ID
from ....store.catalogue.access.limits import Limits
from ....store.catalogue.access.quotas import list_limits
from ....store.catalogue.access.retention import list_rules
from ....store.catalogue.access.rules import RetentionRules
from ....store.catalogue.files.hashes import HashRow, hashes_of
from ....store.catalogue.files.xorbs import end_generation, find_generation
from ....store.catalogue.tables.rows import CommitRow, batches
from ....store.catalogue.tokens import list_tokens
from ....store.errors import NotFound, StoreError
from ....store.object_keys import (
    HEADS,
    JOURNAL,
    MANIFESTS,
    QUARANTINE,
    SKETCHES,
    XORBS,
    folder_of,
    name_of,
    pack_key,
    sketches_key,
)
from ....store.packs import read_index
from ...errors import VaultError
from ...model.files.entries import ChunkUse
from ...model.journal_entries import (
    AnyEntry,
    Entry,
    QuotaChange,
    RetentionChange,
    TokenChange,
    Tombs,
    parse_entry,
)
from ...model.sketch import make_sketch
from ...model.sketch_file import Sketches, pack_sketches
from ...model.store_marker import restore_marker
from ...reading.chunk_reader import ChunkReader
from ...repository.frame_reader import read_frames
from ...repository.journal.heads import rebuild_heads
from ...repository.journal.replay import list_keys, load_manifest
from ...repository.journal.writing import new_entry
from ...repository.refs_state import Replay, RepoState, changes_of, read_state
from ...repository.repository import Repository

_PUSH_AGAIN = "pushing the same files again brings it back"


@dataclass(frozen=True, slots=True)
class ObjectRepair:
    """Whether all is right again without the object as it was, and what was done or is to do."""

    repaired: bool
    hint: str = "rebuilt"


def repair_object(vault: Repository, key: str, *, dry_run: bool) -> ObjectRepair:
    """Rebuilds a damaged object where the catalogue knows what it held."""
    kind = folder_of(key)
    if kind == MANIFESTS:
        if not dry_run:
            _quarantine(vault, key)
        return ObjectRepair(False, _PUSH_AGAIN)
    if dry_run:
        return ObjectRepair(True)
    if kind == SKETCHES:
        _rebuild_sketches(vault, name_of(key))
    elif kind == JOURNAL:
        _quarantine(vault, key)
        settle_entries(vault, [key])
    elif kind == HEADS:
        rebuild_heads(vault.backend, vault.catalogue, key)
    elif kind == XORBS:
        _give_up_xorb(vault, key)
        return ObjectRepair(True, "removed: its clients send what they have again")
    else:
        restore_marker(vault.backend, vault.catalogue)
    return ObjectRepair(True)


def _give_up_xorb(vault: Repository, key: str) -> None:
    """Removes what is left of a xorb, and lets its owner's clients forget what they sent."""
    _, generation, _ = key.split("/")
    found = find_generation(vault.catalogue, generation)
    if found is not None:
        end_generation(vault.catalogue, found, time.time())
    vault.backend.delete(key)


def _quarantine(vault: Repository, key: str) -> None:
    """Keeps a damaged object aside: somebody may still make sense of it."""
    vault.backend.put(QUARANTINE + key, vault.backend.get(key))
    vault.backend.delete(key)


def _rebuild_sketches(vault: Repository, pack: str) -> None:
    key = pack_key(pack)
    try:
        size = vault.backend.size(key)
    except NotFound:
        vault.backend.delete(sketches_key(pack))
        return
    entries = read_index(lambda start, stop: vault.backend.get(key, start, stop), size)
    here = {e.digest: e for e in entries}
    there = vault.catalogue.locate(here)
    reader = ChunkReader(partial(read_frames, vault.backend, vault.catalogue))
    uses = [ChunkUse(d, 0, e.raw_bytes, BY_ID[e.dtype].name) for d, e in here.items() if d in there]
    sketches: Sketches = {}
    for use, raw in zip(uses, reader.read(uses), strict=True):
        sketches[use.digest] = make_sketch(raw, use.dtype)
    vault.backend.put(sketches_key(pack), pack_sketches(entries, sketches))


def settle_entries(vault: Repository, keys: Sequence[str]) -> None:
    """Writes again what the catalogue knows of entries that are gone, and notes in the journal that
    their loss is settled."""
    _complete_journal(vault)
    for batch in batches(list(keys)):
        # Of all kinds of entries one that says nothing else, to old versions either.
        _put(vault, Tombs("restore", (), 0.0), batch)


def _complete_journal(vault: Repository) -> None:
    """Writes what the journal lacks for its replay to give what the catalogue has.

    A lost commit is written again; a lost deletion is seen by repos that the journal alone would
    bring back, a lost token by its absence. Branches, tags and visibility are brought to what they
    are. All of it comes after what there is: a commit may have been brought back after a deletion.
    """
    _complete_commits(vault)
    told = _replay(vault)
    for repo, after in _repos_of(vault).items():
        for change in changes_of(repo, told.repos.get(repo, RepoState()), after, 0.0):
            _put(vault, change)
    for token in list_tokens(vault.catalogue):
        if told.tokens.get(token.id) != token:
            _put(vault, TokenChange(token, 0.0))
    limits = list_limits(vault.catalogue)
    for namespace in sorted(limits.keys() | told.limits.keys()):
        wanted = limits.get(namespace, Limits())
        if told.limits.get(namespace, Limits()) != wanted:
            _put(vault, QuotaChange(namespace, wanted, 0.0))
    rules = list_rules(vault.catalogue)
    for namespace in sorted(rules.keys() | told.rules.keys()):
        kept = rules.get(namespace, RetentionRules())
        if told.rules.get(namespace, RetentionRules()) != kept:
            _put(vault, RetentionChange(namespace, kept, 0.0))


def _complete_commits(vault: Repository) -> None:
    told, known = _replay(vault), _repos_of(vault)
    for repo in sorted(told.repos.keys() | known.keys()):
        before, after = told.repos.get(repo, RepoState()), known.get(repo, RepoState())
        if before.commits.keys() - after.commits.keys():
            _put(vault, Entry(repo, 0.0))
            # Those that it has now are younger than its deletion, or lost with it.
            before = RepoState()
        for oid, row in after.commits.items():
            if oid not in before.commits:
                _put(vault, Entry(row.repo, 0.0, row, _hashes_of(vault, row)))


def _hashes_of(vault: Repository, row: CommitRow) -> tuple[HashRow, ...]:
    """Returns what else is known of the files of a commit; nothing where its manifest is lost."""
    try:
        files = load_manifest(vault.backend, row.manifest).files
    except NotFound:
        return ()
    except StoreError:
        # The store does not answer, which says nothing about the manifest.
        raise
    except VaultError:
        return ()
    return tuple(hashes_of(vault.catalogue, [entry.digest for entry in files]).values())


def _repos_of(vault: Repository) -> dict[str, RepoState]:
    """Returns the repos as the catalogue has them."""
    catalogue = vault.catalogue
    return {row.name: read_state(catalogue, row.name) for row in catalogue.list_repos()}


def _replay(vault: Repository) -> Replay:
    """What the sound entries of the journal lead to."""
    found = Replay()
    for key in list_keys(vault.backend):
        data = vault.backend.get(key)
        with suppress(VaultError):
            found.take(parse_entry(key, data))
    return found


def _put(vault: Repository, entry: AnyEntry, lost: Collection[str] = ()) -> None:
    """Writes an entry of now, which settles that others are `lost`."""
    # The catalogue has what it says; it is not to be carried out once more.
    vault.catalogue.pass_entry(
        new_entry(vault.backend, lambda at: replace(entry, created=at), lost=lost)
    )
