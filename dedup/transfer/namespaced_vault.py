"""A vault as somebody sees who pushes to one namespace and may not read all others.

Knowing a digest must open nothing. So a chunk counts as missing here unless a repo that they may
read has it or they have sent its bytes for their namespace, which is kept on record (`received`); a
commit may name such chunks alone; bases are told and taken only of repos that they may read. What
was stored before is thus sent again, and stored once all the same.

A frame that stands alone waits to be encoded again in the background (background_encode.py), which
chooses among all bases that its owners may read, with more time.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path

from ...store.catalogue.access.received import (
    note_received,
    readable_through,
    received_among,
    strike_received,
)
from ...store.catalogue.encode_queue import queue_chunks
from ...store.catalogue.owners import reach_of_any, sharing_of
from ...store.catalogue.visibility import Scope
from ..errors import ChunksMissing, InvalidFrame
from ..model.files.manifest import Manifest
from ..model.sketch import Sketch
from ..repository.error_translation import store_errors
from ..repository.pack_check import read_entries
from ..repository.repository import Repository
from ..similarity.candidates import find_candidates
from ..vault import Candidate, Commit

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
        """See Vault.find_bases: as if what the owner may not read were not there."""
        catalogue = self._vault.catalogue
        with store_errors():
            with catalogue.reading() as connection:
                within = reach_of_any(self._owners, sharing_of(connection))
            read = () if self._scope.everything else (self._scope,)
            return find_candidates(catalogue, sketches, (*read, *within))

    def add_pack(self, path: Path, name: str, *, bounded: bool = False) -> int:
        """See Vault.add_pack; returns how many chunks the pack has, new or not."""
        entries = read_entries(path)
        bases = {e.base_digest for e in entries if e.base_digest is not None}
        for base in self._unknown(bases):
            # As of one that is not there.
            raise InvalidFrame(f"the base {base.hex()} of a delta is not in this vault")
        self._vault.add_pack(path, name, bounded=bounded)
        now, catalogue = time.time(), self._vault.catalogue
        alone = [e.digest for e in entries if e.base_digest is None]
        with store_errors():
            sent = [entry.digest for entry in entries]
            note_received(catalogue, self._namespace, sent, now, now - KEEP_SECONDS)
            queue_chunks(catalogue, alone)
        return len(entries)

    def commit(
        self,
        repo: str,
        branch: str,
        manifest: Manifest,
        *,
        base: str | None = None,
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
            repo, branch, manifest, base=base, bounded=bounded, known_to=self._scope
        )
        with store_errors():
            strike_received(self._vault.catalogue, self._namespace, digests)
        return made

    def _unknown(self, digests: Collection[bytes]) -> set[bytes]:
        """Returns those of `digests` that the owner may not know to be here."""
        catalogue = self._vault.catalogue
        with store_errors():
            since = time.time() - KEEP_SECONDS
            mine = received_among(catalogue, self._namespace, digests, since)
            rest = set(digests) - mine
            return rest - readable_through(catalogue, rest, self._scope).keys()
