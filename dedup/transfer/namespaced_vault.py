"""A vault as somebody sees who pushes to one namespace and may not read all others.

Knowing a digest must open nothing. So a chunk counts as missing here unless a repo that they may
read has it or they have sent its bytes for their namespace, which is kept on record (`received`); a
commit may name such chunks alone; bases are told and taken only of repos that they may read. What
was stored before is thus sent again, and stored once all the same.

Which chunks are standalone depends on all who have them: a delta whose base somebody may not read
is encoded again without it. So what is told and taken must not go by it. Bases are told of
public repos only; those in one's own are found by name, as the declared base or the commit before.
A delta on a chunk that is a delta itself is taken like any other: its frame is told how deep it is,
or the chunk is given a frame that is standalone where the chain were too long.

A frame that is standalone waits to be encoded again in the background (background_encode.py), which
chooses among all bases that its owners may read, with more time.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ...store.cancel import check_cancelled
from ...store.catalogue.access.received import (
    note_received,
    readable_through,
    received_among,
    strike_received,
)
from ...store.catalogue.moved_frames import lowest_levels
from ...store.catalogue.owners import reach_of_any, sharing_of
from ...store.catalogue.queues.encode_queue import queue_chunks
from ...store.catalogue.visibility import Scope
from ...store.packs import PackEntry
from ..errors import BaseMissing, ChunksMissing
from ..model.files.entries import ChunkUse
from ..model.files.expansion import check_frames
from ..model.files.manifest import Manifest
from ..model.sketch import Sketch
from ..reading.chunk_reader import ChunkReader
from ..reading.timed_codecs import encode_tensor, read_header
from ..repository.deeper_packs import levels_needed
from ..repository.pack_check import read_entries
from ..repository.pack_writing import depths_of
from ..repository.repository import Repository
from ..similarity.candidates import find_candidates
from ..vault import Candidate, Commit
from .new_frames import TemporaryPack

# A push that was cut off goes on where it was for as long as a collection leaves its packs.
KEEP_SECONDS = 7 * 24 * 3600.0


class NamespacedVault:
    """The way in of a Repository for who may write in the namespaces `owners` and may read the
    repos of `scope`. What they send is on the record of `namespace`, a name for them all. Methods
    do as those of Vault, as far as they may know."""

    def __init__(
        self, vault: Repository, namespace: str, scope: Scope, owners: Collection[str]
    ) -> None:
        self._owners = tuple(owners)
        self.scratch = vault.scratch
        self._vault = vault
        self._namespace = namespace
        self._scope = scope

    def find_missing(self, digests: Collection[bytes]) -> set[bytes]:
        """See Vault.find_missing."""
        return self._vault.find_missing(digests) | self._unknown(digests)

    def find_bases(self, sketches: Sequence[Sketch]) -> list[tuple[Candidate, ...]]:
        """See Vault.find_bases: of public repos, unless the owner may read every repo."""
        catalogue = self._vault.catalogue
        with catalogue.reading() as connection:
            within = reach_of_any(self._owners, sharing_of(connection))
        read = () if self._scope.everything else (Scope(public=self._scope.public),)
        return find_candidates(catalogue, sketches, (*read, *within))

    def add_pack(self, path: Path, name: str, *, bounded: bool = False) -> int:
        """See Vault.add_pack; returns how many chunks the pack has, new or not."""
        entries = read_entries(path)
        levels = levels_needed(entries)
        for digest in self._unknown(levels):
            # As of one that is not there.
            missing = f"the base {digest.hex()} of a delta is not in this vault"
            raise BaseMissing(missing, "push again")
        if not self._scope.everything:
            if bounded:
                locate = self._vault.catalogue.locate
                check_frames(entries, path.stat().st_size, locate(levels), locate)
            self._add_levelled(path, name, entries, bounded=bounded)
        else:
            self._vault.add_pack(path, name, bounded=bounded)
        now, catalogue = time.time(), self._vault.catalogue
        alone = [e.digest for e in entries if not e.inputs]
        sent = [entry.digest for entry in entries]
        note_received(catalogue, self._namespace, sent, now, now - KEEP_SECONDS)
        queue_chunks(catalogue, alone)
        return len(entries)

    def _add_levelled(
        self, path: Path, name: str, entries: Sequence[PackEntry], *, bounded: bool
    ) -> None:
        """Stores a pack; bases whose chains would be too long are given standalone frames."""
        levels = lowest_levels(self._vault.catalogue, levels_needed(entries))
        depths = depths_of(entries, levels)
        self._let_stand_alone(levels_needed([e for e in entries if e.digest not in depths]))
        self._vault.add_pack(path, name, bounded=bounded)

    def _let_stand_alone(self, below: Mapping[bytes, int]) -> None:
        """Stores a standalone frame for those chunks that have none of a level below what is given:
        once for each, as what others need keeps a lower level than theirs."""
        catalogue = self._vault.catalogue
        levels = lowest_levels(catalogue, below)
        places = catalogue.locate([d for d, level in levels.items() if level >= below[d]])
        if not places:
            return
        reader = ChunkReader(self._vault.fetch_frames)
        with TemporaryPack(self._vault, "alone") as pack:
            for digest, place in places.items():
                check_cancelled()
                dtype = read_header(next(self._vault.fetch_frames([digest])), digest).dtype
                (raw,) = reader.read([ChunkUse(digest, 0, place.raw_bytes, dtype)])
                pack.add(encode_tensor(raw, dtype, codec="raw", digest=digest))
            pack.store()
        queue_chunks(catalogue, list(places))

    def commit(
        self,
        repo: str,
        branch: str,
        manifest: Manifest,
        *,
        base: str | None = None,
        message: str | None = None,
        bounded: bool = False,
    ) -> Commit:
        """See Vault.commit."""
        digests = manifest.digests().keys()
        unknown = self._unknown(digests)
        if unknown:
            raise ChunksMissing(
                f"{len(unknown)} of {len(digests)} chunks were never uploaded", "push again"
            )
        # What others have is hashed once more: it takes as long as what nobody has.
        made = self._vault.commit(
            repo,
            branch,
            manifest,
            base=base,
            message=message,
            bounded=bounded,
            known_to=self._scope,
        )
        strike_received(self._vault.catalogue, self._namespace, digests)
        return made

    def _unknown(self, digests: Collection[bytes]) -> set[bytes]:
        """Returns those of `digests` that the owner may not know to be here."""
        catalogue = self._vault.catalogue
        since = time.time() - KEEP_SECONDS
        mine = received_among(catalogue, self._namespace, digests, since)
        rest = set(digests) - mine
        return rest - readable_through(catalogue, rest, self._scope).keys()
