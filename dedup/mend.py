"""Makes damaged small objects anew: sketches, manifests' places, journal entries, the marker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..codecs.dtypes import BY_ID
from ..store.errors import NotFound
from ..store.pack import pack_key, read_index
from ..store.rows import CommitRow
from .chunks import ChunkReader
from .errors import VaultError
from .frames import read_frames
from .journal import Entry, key_time, list_keys, pack_entry, parse_entry
from .manifest import ChunkUse
from .marker import restore_marker
from .sketch import make_sketch
from .sketchfile import Sketches, pack_sketches, sketches_key

if TYPE_CHECKING:
    from .local import LocalVault

_PUSH_AGAIN = "pushing the same files again brings it back"


@dataclass(frozen=True, slots=True)
class Mended:
    """Whether an object is right again, and what to do where it is not."""

    mended: bool
    hint: str = ""


def mend_object(vault: LocalVault, key: str, *, dry_run: bool) -> Mended:
    """Makes a damaged object anew where the catalogue knows what it held."""
    kind = key.partition("/")[0]
    if kind == "manifests":
        if not dry_run:
            _quarantine(vault, key)
        return Mended(False, _PUSH_AGAIN)
    if dry_run:
        return Mended(True)
    if kind == "sketches":
        _mend_sketches(vault, key.rpartition("/")[2])
    elif kind == "journal":
        _quarantine(vault, key)
        _complete_journal(vault, key)
    else:
        restore_marker(vault.backend, vault.catalogue)
    return Mended(True)


def _quarantine(vault: LocalVault, key: str) -> None:
    """Keeps a damaged object aside: somebody may still make sense of it."""
    vault.backend.put(f"quarantine/{key}", vault.backend.get(key))
    vault.backend.delete(key)


def _mend_sketches(vault: LocalVault, pack: str) -> None:
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
    vault.backend.put(sketches_key(pack), pack_sketches(sketches.items()))


def _complete_journal(vault: LocalVault, lost_key: str) -> None:
    """Writes what the journal lacks for its replay to give the catalogue's repos and commits.

    A lost commit is written again, with its own time; a lost deletion is seen by repos that the
    journal alone would bring back, and gets the time of the lost entry.
    """
    known: dict[tuple[str, str], CommitRow] = {
        (row.repo, row.oid): row for row in vault.catalogue.all_commits()
    }
    told = set(_replay(vault))
    for repo in sorted({repo for repo, oid in told - known.keys()}):
        _put(vault, Entry(repo, key_time(lost_key)))
    for place, row in known.items():
        if place not in told:
            _put(vault, Entry(row.repo, row.created, row))


def _replay(vault: LocalVault) -> Iterator[tuple[str, str]]:
    """Yields repo and id of the commits that the sound entries of the journal lead to."""
    repos: dict[str, set[str]] = {}
    for key in list_keys(vault.backend):
        try:
            entry = parse_entry(key, vault.backend.get(key))
        except VaultError:
            continue
        if isinstance(entry, Entry):
            if entry.commit is None:
                repos.pop(entry.repo, None)
            else:
                repos.setdefault(entry.repo, set()).add(entry.commit.oid)
    return ((repo, oid) for repo, oids in repos.items() for oid in oids)


def _put(vault: LocalVault, entry: Entry) -> None:
    key, data = pack_entry(entry)
    vault.backend.put(key, data)
    # The catalogue has what it says; it is not to be carried out once more.
    vault.catalogue.pass_entry(key)
