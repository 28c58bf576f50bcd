"""Collects garbage: takes objects away that nothing has needed for a grace period.

Two phases, which one run goes through for different objects (ARCHITECTURE.md, "Collection"):
what nothing needs now is *retired*, that is given a tombstone; what was retired longer ago than
the grace, and is still not needed, is *removed*. Stopping at any point loses nothing; the next run
goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from ...store.catalogue.access.received import forget_received
from ...store.catalogue.damage import list_findings
from ...store.catalogue.files.loose_files import expire_loose
from ...store.catalogue.lost_entries import find_heads
from ...store.catalogue.tables.rows import batches
from ...store.catalogue.tombstones import (
    PackUse,
    Tombstone,
    catalogue_id,
    delete_removed,
    lift_needed,
    list_tombstones,
    pack_uses,
    remove_dead,
    set_tombstones,
    used_manifests,
)
from ...store.object_keys import (
    MANIFESTS,
    SKETCHES,
    UPLOADS,
    is_pack,
    manifest_key,
    name_of,
    pack_key,
    sketches_key,
)
from ..model.journal_entries import Tombs, pack_entry
from ..progress import Progress
from ..repository.journal import catch_up, learn_packs, write_entry
from ..repository.pins import REMOVAL_SECONDS
from ..repository.repository import Repository
from .base_copies import copy_bases
from .repack import move_live_frames
from .xet_gc import find_dead, forget_unused

DEFAULT_GRACE_SECONDS = 7 * 24 * 3600.0
# An object that nothing needs yet may belong to a push that is under way. After a day it does not.
FRESH_SECONDS = 24 * 3600.0
# Where parts of long uploads wait for the last one (api/hub/lfs.py).
# Rewriting a pack that is half dead costs as many bytes as it frees.
DEFAULT_DEAD_SHARE = 0.5


@dataclass
class Collected:
    """What a collection did, or with a dry run would do; bytes are those of objects.

    `retired` objects got a tombstone, `removed` ones went, and so did `strays`: sketches without
    their pack, and xorbs that no client counts on. `waiting` are those whose grace has not ended,
    `compacted` packs whose live frames moved to new packs. `copied_bytes` are frames of bases that
    were stored a second time.
    """

    retired: int = 0
    retired_bytes: int = 0
    removed: int = 0
    removed_bytes: int = 0
    strays: int = 0
    strays_bytes: int = 0
    waiting: int = 0
    waiting_bytes: int = 0
    compacted: int = 0
    moved_bytes: int = 0
    copied_bytes: int = 0
    dry_run: bool = False


def choose_mostly_dead(uses: Iterable[PackUse], dead_share: float) -> list[PackUse]:
    """Returns the packs worth rewriting: something is live in them, and `dead_share` or more of
    their frame bytes is not."""
    return [
        use
        for use in uses
        if 0 < use.live_bytes <= (1 - dead_share) * use.frame_bytes
        and use.live_bytes < use.frame_bytes
    ]


class Collector:
    """One collection of a vault.

    Objects go when nothing has needed them for `grace_seconds`, packs are rewritten when at least
    `dead_share` of their frame bytes is not needed, and second copies of bases with at least
    `copies_from` deltas stay. `now` is a clock in Unix seconds. Its methods raise StoreError and
    VaultError kinds; run again, a collection goes on where it was.
    """

    def __init__(
        self,
        vault: Repository,
        *,
        grace_seconds: float = DEFAULT_GRACE_SECONDS,
        dead_share: float = DEFAULT_DEAD_SHARE,
        copies_from: int | None = None,
        progress: Progress | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._vault = vault
        self._backend = vault.backend
        self._catalogue = vault.catalogue
        self._grace = grace_seconds
        self._dead_share = dead_share
        self._copies_from = copies_from
        self._progress = progress or Progress()
        self._now = now

    def run(self) -> Collected:
        """Collects; raises VaultError kinds."""
        found = Collected()
        self._look()
        forget_unused(self._catalogue, self._objects, self._now(), self._grace)
        lift_needed(self._catalogue, self._copies_from)
        if self._copies_from is not None:
            found.copied_bytes = copy_bases(self._vault, self._copies_from, self._progress)
        moved = move_live_frames(self._vault, self._mostly_dead(), self._progress)
        found.compacted, found.moved_bytes = moved
        self._retire(found)
        self._remove(found)
        self._remove_strays(found)
        return found

    def predict(self) -> Collected:
        """Says what a collection would do now, changing nothing in the object store.

        Packs that would become empty by moving their live frames are not counted as retired.
        """
        found = Collected(dry_run=True)
        self._look()
        for use in self._mostly_dead():
            found.compacted += 1
            found.moved_bytes += use.live_bytes
        needless = self._all_unneeded()
        # As lift_needed would leave them.
        tombs = {
            key: tomb
            for key, tomb in list_tombstones(self._catalogue).items()
            if key in needless or tomb.removed is not None
        }
        retiring = {key for key in needless - tombs.keys() if self._is_old(key)}
        found.retired, found.retired_bytes = len(retiring), self._bytes_of(retiring)
        due = {key for key, tomb in tombs.items() if self._is_due(tomb)}
        if self._grace <= 0:
            due |= retiring
        found.removed, found.removed_bytes = len(due), self._bytes_of(due)
        strays = list(self._find_strays())
        found.strays, found.strays_bytes = len(strays), self._bytes_of(strays)
        self._count_waiting(found, tombs.keys() - due)
        return found

    def _look(self) -> None:
        """Brings the catalogue up to date, also with packs of pushes that died, and lists what the
        store holds."""
        catch_up(self._backend, self._catalogue)
        learn_packs(self._backend, self._catalogue)
        expire_loose(self._catalogue, self._now())
        forget_received(self._catalogue, self._now() - self._grace)
        self._id = catalogue_id(self._catalogue)
        self._objects = {info.key: info for info in self._backend.list()}

    def _mostly_dead(self) -> list[PackUse]:
        uses = pack_uses(self._catalogue, self._copies_from)
        # What of them is whole a repair moves; the rest cannot be.
        damaged = {finding.pack for finding in list_findings(self._catalogue)}
        return [
            use
            for use in choose_mostly_dead(uses, self._dead_share)
            if use.name not in damaged and self._is_old(pack_key(use.name))
        ]

    def _unneeded(self) -> set[str]:
        """Keys of objects that nothing needs and that are too old for a push under way."""
        return {key for key in self._all_unneeded() if self._is_old(key)}

    def _all_unneeded(self) -> set[str]:
        uses = pack_uses(self._catalogue, self._copies_from)
        keys = {pack_key(use.name) for use in uses if not use.live_bytes}
        used = {manifest_key(name) for name in used_manifests(self._catalogue)}
        return keys | ({key for key in self._objects if key.startswith(MANIFESTS)} - used)

    def _is_old(self, key: str) -> bool:
        info = self._objects.get(key)
        return info is None or info.modified <= self._now() - min(self._grace, FRESH_SECONDS)

    def _is_due(self, tomb: Tombstone) -> bool:
        if tomb.removed is not None:
            # Somebody was removing it; unless that is done by now, it was stopped.
            return not tomb.foreign or self._now() >= tomb.removed + 2 * REMOVAL_SECONDS
        # A clock that is ahead of this one may have set it: no reason to wait without grace.
        return max(0.0, self._now() - tomb.since) >= self._grace

    def _bytes_of(self, keys: Collection[str]) -> int:
        """Bytes of objects; those of a pack include its sketches."""
        beside = [sketches_key(name_of(k)) for k in keys if is_pack(k)]
        return sum(self._objects[k].size for k in (*keys, *beside) if k in self._objects)

    def _retire(self, found: Collected) -> None:
        keys = sorted(self._unneeded() - list_tombstones(self._catalogue).keys())
        for batch in batches(keys):
            now = self._now()
            tombs = Tombs("retire", tuple(batch), now, self._id)
            entry, data = pack_entry(tombs, find_heads(self._catalogue))

            def publish(entry: str = entry, data: bytes = data) -> None:
                self._backend.put(entry, data)

            set_tombstones(self._catalogue, batch, now, entry, publish)
        found.retired, found.retired_bytes = len(keys), self._bytes_of(keys)

    def _remove(self, found: Collected) -> None:
        tombs = list_tombstones(self._catalogue)
        due = [key for key, tomb in tombs.items() if self._is_due(tomb)]
        self._progress.begin("removing", self._bytes_of(due))
        try:
            for batch in batches(due):
                self._remove_batch(batch, found)
        finally:
            self._progress.end()
        self._count_waiting(found, list_tombstones(self._catalogue).keys() - set(due))

    def _remove_batch(self, keys: list[str], found: Collected) -> None:
        started = self._now()

        after = find_heads(self._catalogue)

        def publish(dead: list[str]) -> str:
            tombs = Tombs("remove", tuple(dead), started, self._id)
            return write_entry(self._backend, tombs, after)

        dead = remove_dead(self._catalogue, keys, started, publish, self._copies_from)
        # Whoever began to rely on one of them before that entry was there has said so by now, and
        # whoever does so later reads the entry first.
        catch_up(self._backend, self._catalogue)
        for key in dead:
            if self._now() > started + REMOVAL_SECONDS:
                return
            size = self._bytes_of([key])
            if delete_removed(self._catalogue, key, lambda key=key: self._delete(key)):
                found.removed += 1
                found.removed_bytes += size
            self._progress.advance(size)

    def _delete(self, key: str) -> None:
        if is_pack(key):
            self._backend.delete(sketches_key(key.rpartition("/")[2]))
        self._backend.delete(key)

    def _remove_strays(self, found: Collected) -> None:
        for key in list(self._find_strays()):
            found.strays += 1
            found.strays_bytes += self._bytes_of([key])
            self._backend.delete(key)

    def _find_strays(self) -> Iterator[str]:
        """Sketches whose pack is not there, nor on its way: they are stored just before it. Xorbs
        that no client counts on, and parts of uploads that nobody completed."""
        dead = find_dead(self._catalogue, self._objects, self._now())
        yield from filter(self._is_old, dead)
        for key in self._objects:
            pack = pack_key(name_of(key)) if key.startswith(SKETCHES) else ""
            if pack and pack not in self._objects and self._is_old(key):
                yield key
            if (
                key.startswith(UPLOADS)
                and self._objects[key].modified < self._now() - FRESH_SECONDS
            ):
                yield key

    def _count_waiting(self, found: Collected, keys: Collection[str]) -> None:
        """Counts what has a tombstone, and what is still too new for one."""
        keys = {*keys, *(key for key in self._all_unneeded() if not self._is_old(key))}
        found.waiting, found.waiting_bytes = len(keys), self._bytes_of(keys)
