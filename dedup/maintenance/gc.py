"""Collects garbage: takes objects away that nothing has needed for a grace period.

Two phases, which one run goes through for different objects (ARCHITECTURE.md, "Collection"):
what nothing needs now is *retired*, that is given a tombstone; what was retired longer ago than
the grace, and is still not needed, is *removed*. `collection/plan.py` says which objects that are.
Stopping at any point loses nothing; the next run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from ...store.catalogue.access.received import forget_received
from ...store.catalogue.damage import bases_without_copy
from ...store.catalogue.files.loose_files import expire_loose
from ...store.catalogue.tables.database import MakeEntry
from ...store.catalogue.tables.rows import batches
from ...store.catalogue.tombstones import (
    catalogue_id,
    delete_removed,
    lift_needed,
    remove_dead,
    set_tombstones,
)
from ...store.object_keys import is_pack, name_of, pack_key, sketches_key
from ..model.journal_entries import Tombs
from ..progress import Progress
from ..repository.journal.replay import catch_up, learn_packs
from ..repository.journal.writing import new_entry
from ..repository.pins import REMOVAL_SECONDS, show_presence
from ..repository.repository import Repository
from .collection.base_copies import copy_bases
from .collection.plan import (
    DEFAULT_GRACE_SECONDS,
    CollectionPlan,
    CollectionRules,
    Objects,
    StoreState,
    list_objects,
    plan_collection,
    read_store_state,
)
from .collection.release import remove_packs
from .collection.repack import group_uses, move_live_frames
from .collection.xorbs import forget_unused


@dataclass
class Collected:
    """What a collection did, or with a dry run would do; bytes are those of objects.

    `retired` objects got a tombstone, `removed` ones went, and so did `strays`: sketches without
    their pack, and xorbs that no client counts on. `waiting` are those whose grace has not ended,
    `compacted` packs whose live frames moved to new packs. `copied_bytes` are frames of bases that
    were stored a second time. `others` are catalogues at work on the same objects, or backups under
    way, for which frames that were replaced wait as well.
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
    others: int = 0
    dry_run: bool = False


class Collector:
    """One collection of a vault.

    Objects go when nothing has needed them for `grace_seconds`; packs whose frames have all been
    replaced go at once, as far as no other catalogue may need them. Packs are rewritten when at
    least `dead_share` of their frame bytes is not needed, unless told by what that costs and frees.
    Second copies of bases with at least `copies_from` deltas stay. `now` is a clock in Unix
    seconds. Its methods raise StoreError and VaultError kinds; run again, a collection goes on
    where it was.
    """

    def __init__(
        self,
        vault: Repository,
        *,
        grace_seconds: float = DEFAULT_GRACE_SECONDS,
        dead_share: float | None = None,
        copies_from: int | None = None,
        progress: Progress | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._vault = vault
        self._backend = vault.backend
        self._catalogue = vault.catalogue
        self._rules = CollectionRules(grace_seconds, dead_share)
        self._copies_from = copies_from
        self._progress = progress or Progress()
        self._now = now

    def run(self) -> Collected:
        """Collects; raises VaultError kinds."""
        found = Collected()
        self._prepare()
        show_presence(self._backend, self._catalogue)
        lift_needed(self._catalogue, self._copies_from)
        objects = list_objects(self._vault)
        forget_unused(self._catalogue, objects, self._now(), self._rules.grace_seconds)
        if self._copies_from is not None:
            found.copied_bytes = copy_bases(self._vault, self._copies_from, self._progress)
        state, plan = self._plan(objects)
        released = (0, 0)
        if plan.compact:
            released = self._rewrite(found, state, plan)
            # The packs that were emptied go by what is needed now.
            state, plan = self._plan(list_objects(self._vault))
        self._count(found, state, plan)
        self._remove_strays(plan.strays)
        self._retire(plan.retire)
        removed = self._remove(state, plan.remove)
        found.removed, found.removed_bytes = removed[0] + released[0], removed[1] + released[1]
        return found

    def _rewrite(
        self, found: Collected, state: StoreState, plan: CollectionPlan
    ) -> tuple[int, int]:
        """Moves frames out of the packs to compact. Returns how many of these went at once, and
        their bytes: of the others something may be wanted back until its grace has ended."""
        at_once = self._rules.grace_seconds > 0 and state.alone
        removed = removed_bytes = 0
        for uses in group_uses(plan.compact):
            counts = move_live_frames(self._vault, uses, self._progress, unneeded_too=at_once)
            found.compacted += counts.packs
            found.moved_bytes += counts.frame_bytes
            if at_once:
                gone = remove_packs(self._vault, [use.name for use in uses])
                removed += len(gone)
                removed_bytes += state.bytes_of([pack_key(use.name) for use in gone])
        return removed, removed_bytes

    def predict(self) -> Collected:
        """Says what a collection would do now, changing nothing in the object store.

        Packs that would become empty by moving their live frames are not counted as retired.
        """
        self._prepare()
        state, plan = self._plan(list_objects(self._vault))
        found = Collected(dry_run=True)
        found.compacted = len(plan.compact)
        found.moved_bytes = sum(use.live_bytes for use in plan.compact)
        if self._copies_from is not None:
            bases = bases_without_copy(self._catalogue, self._copies_from)
            found.copied_bytes = sum(base.frame_bytes for base in bases)
        self._count(found, state, plan)
        found.removed, found.removed_bytes = len(plan.remove), state.bytes_of(plan.remove)
        return found

    def _prepare(self) -> None:
        """Brings the catalogue up to date, also with packs of pushes that died."""
        catch_up(self._backend, self._catalogue)
        learn_packs(self._backend, self._catalogue)
        expire_loose(self._catalogue, self._now())
        forget_received(self._catalogue, self._now() - self._rules.grace_seconds)

    def _plan(self, objects: Objects) -> tuple[StoreState, CollectionPlan]:
        state = read_store_state(self._vault, objects, self._now(), self._copies_from)
        return state, plan_collection(state, self._rules)

    def _count(self, found: Collected, state: StoreState, plan: CollectionPlan) -> None:
        found.retired, found.retired_bytes = len(plan.retire), state.bytes_of(plan.retire)
        found.strays, found.strays_bytes = len(plan.strays), state.bytes_of(plan.strays)
        found.waiting, found.waiting_bytes = len(plan.waiting), state.bytes_of(plan.waiting)
        found.others = state.others

    def _remove_strays(self, keys: Collection[str]) -> None:
        for key in keys:
            self._backend.delete(key)

    def _retire(self, keys: Collection[str]) -> None:
        own = catalogue_id(self._catalogue)
        for batch in batches(sorted(keys)):
            tombs = Tombs("retire", tuple(batch), self._now(), own)
            entry = new_entry(self._backend, lambda _, tombs=tombs: tombs)
            set_tombstones(self._catalogue, batch, tombs.created, entry)

    def _remove(self, state: StoreState, keys: Collection[str]) -> tuple[int, int]:
        """Removes objects as far as nothing needs them still; returns how many, and their bytes."""
        removed = [0, 0]
        with self._progress.running("removing", state.bytes_of(keys)):
            for batch in batches(sorted(keys)):
                for size in self._remove_batch(state, batch):
                    removed[0] += 1
                    removed[1] += size
        return removed[0], removed[1]

    def _remove_batch(self, state: StoreState, keys: list[str]) -> Iterator[int]:
        """Yields the bytes of each object that is gone."""
        started = self._now()
        own = catalogue_id(self._catalogue)

        def entry_of(dead: list[str]) -> MakeEntry:
            return new_entry(self._backend, lambda _: Tombs("remove", tuple(dead), started, own))

        dead = remove_dead(self._catalogue, keys, started, entry_of, self._copies_from)
        # Whoever began to rely on one of them before that entry was there has said so by now, and
        # whoever does so later reads the entry first.
        catch_up(self._backend, self._catalogue)
        for key in dead:
            if self._now() > started + REMOVAL_SECONDS:
                return
            size = state.bytes_of([key])
            if delete_removed(self._catalogue, key, lambda key=key: self._delete(key)):
                yield size
            self._progress.advance(size)

    def _delete(self, key: str) -> None:
        if is_pack(key):
            self._backend.delete(sketches_key(name_of(key)))
        self._backend.delete(key)
