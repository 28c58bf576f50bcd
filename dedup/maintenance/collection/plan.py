"""What a collection does, worked out before it does anything.

There is one plan: collections carry it out, dry runs show it, and predictions of what a deletion
would free make it for the store as it would be then (`reports/removal_prediction.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ....store.catalogue.damage import list_findings
from ....store.catalogue.tombstones import (
    PackUse,
    Tombstone,
    list_tombstones,
    pack_uses,
    used_manifests,
)
from ....store.object_keys import (
    MANIFESTS,
    SKETCHES,
    UPLOADS,
    is_pack,
    manifest_key,
    name_of,
    pack_key,
    sketches_key,
)
from ...repository.journal.heads import others_at_work
from ...repository.pins import REMOVAL_SECONDS
from ...repository.repository import Repository
from .xorbs import Objects, find_dead

DEFAULT_GRACE_SECONDS = 7 * 24 * 3600.0
# An object that nothing needs yet may belong to a push that is under way. After a day it does not.
FRESH_SECONDS = 24 * 3600.0
# Packs of which this share is garbage are rewritten: that moves as many bytes as it frees.
_DEAD_SHARE = 0.5
# Others as long as garbage in them is more than this share of what is live, the worst first. Of
# packs that are 2 % garbage 49 bytes are moved for each that is freed, in some minutes of a core
# for 50 GB, and two requests a pack. What is stored stays below 1.03 times what is live so, indexes
# aside.
_MOST_GARBAGE = 0.02
# Frames that were stored within this time may be about to be put in use.
_MOVING_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class CollectionRules:
    """Objects go when nothing has needed them for `grace_seconds`, except packs whose frames have
    all been replaced (release.py). Packs are rewritten when at least `dead_share` of their frame
    bytes is not needed; None: by what that costs and frees."""

    grace_seconds: float = DEFAULT_GRACE_SECONDS
    dead_share: float | None = None


@dataclass(frozen=True, slots=True)
class StoreState:
    """What a plan goes by, at the Unix time `now`: all `objects` by key, all `packs` with how much
    of each is needed, the names of all `manifests` that commits and uploads have, all tombstones by
    key, the names of `damaged` packs, the keys of xorbs' objects that no client counts on, and
    how many `others` there are: catalogues at work on the objects, or backups under way."""

    now: float
    objects: Objects
    packs: Sequence[PackUse]
    manifests: Collection[str]
    tombstones: Mapping[str, Tombstone]
    damaged: Collection[str]
    unused_xorbs: Collection[str]
    others: int = 0

    @property
    def alone(self) -> bool:
        """Whether nobody else may count on frames that were replaced."""
        return self.others == 0

    def bytes_of(self, keys: Collection[str]) -> int:
        """Returns the bytes of objects; those of a pack include its sketches."""
        beside = [sketches_key(name_of(k)) for k in keys if is_pack(k)]
        every = {*keys, *beside}
        return sum(self.objects[k].size for k in every if k in self.objects)


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """Packs to `compact`: their live frames move to new ones. Keys to `retire` get a tombstone,
    those to `remove` go, and so do `strays`, which need none: sketches without their pack, xorbs
    that no client counts on, parts of uploads that nobody completed. `waiting` are all that nothing
    needs and that stay for now."""

    compact: tuple[PackUse, ...]
    retire: frozenset[str]
    remove: frozenset[str]
    strays: frozenset[str]
    waiting: frozenset[str]


def list_objects(vault: Repository) -> Objects:
    """Returns all objects of a store by key."""
    return {info.key: info for info in vault.backend.list()}


def read_store_state(
    vault: Repository, objects: Objects, now: float, copies_from: int | None
) -> StoreState:
    """Reads the state of a store that has these `objects`. Spare frames of bases with at least
    `copies_from` deltas count as needed."""
    return StoreState(
        now,
        objects,
        pack_uses(vault.catalogue, copies_from),
        used_manifests(vault.catalogue),
        list_tombstones(vault.catalogue),
        damaged_packs(vault),
        set(find_dead(vault.catalogue, objects, now)),
        len(others_at_work(vault.catalogue, objects.values())),
    )


def damaged_packs(vault: Repository) -> set[str]:
    """Returns the names of packs on record as damaged. What of them is whole a repair moves, the
    rest nobody can: so collections leave them."""
    return {finding.pack for finding in list_findings(vault.catalogue)}


def plan_collection(state: StoreState, rules: CollectionRules) -> CollectionPlan:
    """Plans a collection of a store.

    Packs to compact count as needed: they go once their frames have moved, by the plan of then.
    """
    needed = {pack_key(use.name) for use in state.packs if use.live_bytes}
    needed |= {manifest_key(name) for name in state.manifests}
    manifests = {key for key in state.objects if key.startswith(MANIFESTS)}
    unneeded = ({pack_key(use.name) for use in state.packs} | manifests) - needed
    # A commit may have come between a collection's look and its tombstones: it takes them back.
    tombs = {key: tomb for key, tomb in state.tombstones.items() if key not in needed}
    replaced = {pack_key(use.name) for use in state.packs if state.alone and use.is_replaced}
    replaced = {key for key in replaced if _is_old(state, rules, key, _MOVING_SECONDS)}
    fresh = {key for key in unneeded - replaced if not _is_old(state, rules, key)}
    retire = unneeded - tombs.keys() - fresh
    remove = {key for key, tomb in tombs.items() if _is_due(tomb, rules, state.now)}
    remove |= (retire | tombs.keys()) & replaced
    if rules.grace_seconds <= 0:
        remove |= retire
    return CollectionPlan(
        tuple(_choose_packs(state, rules)),
        frozenset(retire),
        frozenset(remove),
        frozenset(_find_strays(state, rules)),
        frozenset((tombs.keys() | retire | fresh) - remove),
    )


def _choose_packs(state: StoreState, rules: CollectionRules) -> list[PackUse]:
    """Returns the packs that are worth rewriting, in the order of the state."""
    sound = (use for use in state.packs if use.name not in state.damaged)
    garbage = {use.id: size for use in sound if (size := _garbage_in(state, rules, use))}
    mixed = [use for use in state.packs if use.id in garbage]
    if rules.dead_share is not None:
        least = rules.dead_share
        return [use for use in mixed if garbage[use.id] >= least * use.frame_bytes]
    left = sum(garbage.values())
    allowed = _MOST_GARBAGE * sum(use.live_bytes for use in state.packs)
    chosen: set[int] = set()
    for use in sorted(mixed, key=lambda use: -garbage[use.id] / use.frame_bytes):
        if left > allowed or garbage[use.id] >= _DEAD_SHARE * use.frame_bytes:
            chosen.add(use.id)
            left -= garbage[use.id]
    return [use for use in mixed if use.id in chosen]


def _garbage_in(state: StoreState, rules: CollectionRules, use: PackUse) -> int:
    """Returns the bytes of a pack that it is there for no more, as far as rewriting it frees them.
    Of a young one these are the frames that have been replaced: others may belong to a push under
    way. So they are where the rest was deleted and waits for its grace."""
    if use.is_replaced or (not use.live_bytes and rules.grace_seconds <= 0):
        return 0
    live = use.live_bytes
    if not live or not _is_old(state, rules, pack_key(use.name)):
        live = max(live, use.used_bytes) if state.alone else use.frame_bytes
    return use.frame_bytes - live


def _is_old(
    state: StoreState, rules: CollectionRules, key: str, fresh_seconds: float = FRESH_SECONDS
) -> bool:
    """Whether an object is too old to belong to a push under way."""
    info = state.objects.get(key)
    least = min(rules.grace_seconds, fresh_seconds)
    # The store's clock may be ahead of this one: no reason to wait without grace.
    return info is None or max(0.0, state.now - info.modified) >= least


def _is_due(tomb: Tombstone, rules: CollectionRules, now: float) -> bool:
    if tomb.removed is not None:
        # Somebody was removing it; unless that is done by now, it was stopped.
        return not tomb.foreign or now >= tomb.removed + 2 * REMOVAL_SECONDS
    return max(0.0, now - tomb.since) >= rules.grace_seconds


def _find_strays(state: StoreState, rules: CollectionRules) -> Iterator[str]:
    yield from (key for key in state.unused_xorbs if _is_old(state, rules, key))
    for key, info in state.objects.items():
        # Sketches are stored just before their pack.
        lonely = key.startswith(SKETCHES) and pack_key(name_of(key)) not in state.objects
        # Where parts of long uploads wait for the last one (api/hub/lfs.py).
        part = key.startswith(UPLOADS) and info.modified < state.now - FRESH_SECONDS
        if part or (lonely and _is_old(state, rules, key)):
            yield key
