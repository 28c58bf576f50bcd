"""What deleting repos or commits would free, by the plan of the collection that would follow.

The ledger without them says what would be live then. What a collection does with that is its
own plan (maintenance/collection/plan.py), and the packs that it would write are sized by those that
write them: so the prediction is exact, whatever waits already. It supposes that all graces have
ended.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from ...store.catalogue.reports.bulk import CommitLine, read_ledger, read_loose
from ...store.catalogue.reports.inventory import Inventory, read_inventory
from ...store.catalogue.reports.outlook import (
    find_twin,
    frames_in_use,
    frames_of,
    other_manifests,
    replacing_spares,
)
from ...store.catalogue.tombstones import PackUse
from ...store.object_keys import JOURNAL
from ...store.packs import PackEntry, predict_size
from ..errors import RepoNotFound
from ..maintenance.collection.base_copies import first_pack
from ..maintenance.collection.plan import (
    CollectionPlan,
    CollectionRules,
    StoreState,
    list_objects,
    plan_collection,
    read_store_state,
)
from ..maintenance.collection.repack import group_places
from ..model import sketch_file
from ..model.report import UPLOADS, Prediction, Reason
from ..repository.journal.replay import catch_up, learn_packs
from ..repository.repository import Repository
from .attribution import Integers, sum_by
from .breakdown import Account

Mask = NDArray[np.bool_]
_NAMES = 5


@dataclass(frozen=True, slots=True)
class _Removal:
    """What goes: whole `repos`, with what was uploaded for them, and `commits` by repo and id."""

    repos: frozenset[str] = frozenset()
    commits: frozenset[tuple[str, str]] = frozenset()

    def takes(self, line: CommitLine) -> bool:
        return line.repo in self.repos or (line.repo, line.oid) in self.commits


_NOTHING = _Removal()


def predict_removal(
    vault: Repository, repos: Sequence[str], dead_share: float | None = None
) -> Prediction:
    """Returns what deleting `repos` and collecting would do. Raises RepoNotFound.

    Brings the catalogue up to date, like a dry run of a collection, and changes nothing else.
    """
    return _predict(vault, "rm", repos, _Removal(frozenset(repos)), dead_share)


def predict_forgetting(
    vault: Repository, repo: str, oids: Collection[str], dead_share: float | None = None
) -> Prediction:
    """As predict_removal, of commits of one repo by their ids."""
    removal = _Removal(commits=frozenset((repo, oid) for oid in oids))
    return _predict(vault, "forget", [repo], removal, dead_share)


def _predict(
    vault: Repository,
    change: Literal["rm", "forget"],
    repos: Sequence[str],
    removal: _Removal,
    dead_share: float | None,
) -> Prediction:
    catch_up(vault.backend, vault.catalogue)
    learn_packs(vault.backend, vault.catalogue)
    copies = vault.base_copies() or None
    today = read_store_state(vault, list_objects(vault), time.time(), copies)
    rules = CollectionRules(grace_seconds=0, dead_share=dead_share)
    with vault.catalogue.reading() as connection:
        account = Account(read_ledger(connection), {})
        _check_repos(account, repos)
        inventory = read_inventory(connection, copies)
        store = _Store(connection, today, account, inventory, copies, rules)
        now, then = store.outlook(_NOTHING), store.outlook(removal)
    objects = today.objects.values()
    before = sum(info.size for info in objects if not info.key.startswith(JOURNAL))
    return Prediction(
        change=change,
        subjects=tuple(repos),
        exact=now.exact and then.exact,
        before=before,
        after=before - then.removed_bytes + then.written,
        waiting=now.removed_bytes - now.written,
        written=then.written,
        kept=tuple(_find_reasons(account, removal, then)),
    )


@dataclass(frozen=True, slots=True)
class _Outlook:
    """A store after a collection: chunks that commits and uploads use, and those that live; bytes
    of objects removed and written; the ids of packs that go. `exact`: all facts were known."""

    used: Mask
    live: Mask
    removed_bytes: int
    written: int
    gone: set[int]
    exact: bool


@dataclass(frozen=True, slots=True)
class _Placed:
    """A frame with the position of its chunk in the ledger."""

    place: int
    entry: PackEntry


@dataclass(frozen=True)
class _Store:
    """A store as it is, and what a collection would make of it."""

    connection: Connection
    today: StoreState
    account: Account
    inventory: Inventory
    copies_from: int | None
    rules: CollectionRules

    @cached_property
    def spares(self) -> list[tuple[int, int]]:
        """Spare frames that could take the place of those in use: pack id and position of the
        chunk."""
        found = replacing_spares(self.connection)
        ids = self.account.ledger.chunks.id
        places = np.searchsorted(ids, [chunk for _, chunk in found]).tolist()
        return [(pack, place) for (pack, _), place in zip(found, places, strict=True)]

    @cached_property
    def many(self) -> Mask:
        """Chunks that so many others need that copies are kept."""
        chunks = self.account.ledger.chunks
        count = np.bincount(chunks.needs.input, minlength=len(chunks))
        return count >= (self.copies_from or len(chunks) + 1)

    def outlook(self, without: _Removal) -> _Outlook:
        """Says how a collection leaves the store `without` some repos or commits."""
        used = self._used(without)
        live = self.account.with_inputs(used)
        gone = {line.id for line in self.account.ledger.commits if without.takes(line)}
        named = other_manifests(self.connection, without.repos, self.today.now, gone)
        state = replace(self.today, packs=self._pack_uses(live), manifests=named)
        plan = plan_collection(state, self.rules)
        moves = {use.id: self._live_in(use, live) for use in plan.compact}
        packs = [*self._copies(live), *self._rewritten(plan, moves)]
        written, twins = self._weigh(packs)
        # Where a second frame of a base is wanted, the one that was moved away is it.
        emptied = {
            id_
            for id_, moved in moves.items()
            if not self.many[[placed.place for placed in moved]].any()
        }
        state = replace(state, packs=list(_move(state.packs, emptied - twins, twins)))
        plan = plan_collection(state, self.rules)
        exact = all(entry.dtype >= 0 for entries in packs for entry in entries)
        gone = {use.id for use in state.packs if not use.live_bytes}
        return _Outlook(used, live, state.bytes_of(plan.remove | plan.strays), written, gone, exact)

    def _used(self, without: _Removal) -> Mask:
        ledger = self.account.ledger
        stays = np.array([not without.takes(line) for line in ledger.commits], np.bool_)
        chunk = ledger.chunk[stays[ledger.commit]]
        used = np.bincount(chunk, minlength=len(ledger.chunks)) > 0
        ids = ledger.chunks.id
        now = self.today.now
        used[read_loose(self.connection, ids, without=without.repos, now=now)] = True
        return used

    def _pack_uses(self, live: Mask) -> list[PackUse]:
        """As store.catalogue.tombstones.pack_uses, of chunks that are live then."""
        chunks = self.account.ledger.chunks
        count = max((pack.id for pack in self.inventory.packs), default=0) + 1
        bytes_ = sum_by(chunks.pack[live], chunks.frame_bytes[live], count).tolist()
        used = sum_by(chunks.pack, chunks.frame_bytes, count).tolist()
        kept = {pack for pack, place in self.spares if live[place] and self.many[place]}
        return [
            PackUse(p.id, p.name, p.bytes, p.frame_bytes, size, used[p.id])
            for p in self.inventory.packs
            for size in (p.frame_bytes if p.id in kept else bytes_[p.id],)
        ]

    def _live_in(self, use: PackUse, live: Mask) -> list[_Placed]:
        frames = frames_in_use(self.connection, use.id)
        ids = self.account.ledger.chunks.id
        places = np.searchsorted(ids, [chunk for chunk, _ in frames]).tolist()
        pairs = zip(places, frames, strict=True)
        return [_Placed(place, entry) for place, (_, entry) in pairs if live[place]]

    def _rewritten(
        self, plan: CollectionPlan, moves: dict[int, list[_Placed]]
    ) -> Iterator[list[PackEntry]]:
        for group in group_places((use, moves[use.id]) for use in plan.compact):
            yield [placed.entry for placed_in_pack in group for placed in placed_in_pack]

    def _copies(self, live: Mask) -> Iterator[list[PackEntry]]:
        """The packs of second frames that are made first, the first frame of each twice."""
        had = np.zeros_like(live)
        had[[place for _, place in self.spares]] = True
        wanted = self.account.ledger.chunks.id[live & self.many & ~had]
        entries = frames_of(self.connection, wanted.tolist())
        while entries:
            batch = first_pack(entries)
            entries = entries[len(batch) :]
            yield [batch[0], *batch]

    def _weigh(self, packs: Sequence[Sequence[PackEntry]]) -> tuple[int, set[int]]:
        """Returns the bytes of new packs with their sketches, and the ids of those that are there
        already."""
        ids = {pack.name: pack.id for pack in self.inventory.packs}
        written, twins = 0, set[int]()
        for entries in packs:
            known = [replace(e, dtype=max(e.dtype, 0)) for e in entries]
            size = predict_size(known)
            twin = find_twin(self.connection, size, [entry.digest for entry in entries])
            if twin is None:
                written += size + sketch_file.predict_size(known)
            else:
                twins.add(ids[twin])
        return written, twins


def _move(
    uses: Sequence[PackUse], emptied: Collection[int], written: Collection[int]
) -> Iterator[PackUse]:
    """Yields the packs as they are once those that are `emptied` have nothing live any more, and
    those `written`, which were there already, have."""
    for use in uses:
        if use.id in written:
            yield replace(use, live_bytes=use.frame_bytes)
        else:
            yield replace(use, live_bytes=0) if use.id in emptied else use


def _check_repos(account: Account, repos: Collection[str]) -> None:
    known = {line.repo for line in account.ledger.commits}
    for repo in repos:
        if repo not in known:
            raise RepoNotFound(f"there is no repo {repo}", "`weightvault ls` lists them")


def _find_reasons(account: Account, removal: _Removal, then: _Outlook) -> Iterator[Reason]:
    """Says why bytes of what goes stay."""
    ledger = account.ledger
    what = "commits" if removal.commits else "repos"
    theirs = np.array([removal.takes(line) for line in ledger.commits], np.bool_)
    own = np.zeros(len(ledger.chunks), np.bool_)
    own[ledger.chunk[theirs[ledger.commit]]] = True
    own = account.with_inputs(own)
    stays = ~np.isin(ledger.chunks.pack, list(then.gone))
    for why, mask, others in (
        (f"other {what} have the same chunks", own & then.used, True),
        (f"deltas in other {what} need them as bases", own & then.live & ~then.used, True),
        ("too little of their packs is dead to rewrite those", own & ~then.live & stays, False),
    ):
        size = int(ledger.chunks.frame_bytes[mask].sum())
        if size:
            yield Reason(why, size, _holders(account, mask, removal.repos) if others else ())


def _holders(account: Account, mask: Mask, without: Collection[str]) -> tuple[str, ...]:
    """The owners other than `without` that reach most of the chunks in `mask`, most first."""
    groups = [(name, len(list(g))) for name, g in groupby(account.ledger.commits, _repo_of)]
    reach = account.reach_of([size for _, size in groups])
    names = [*(name for name, _ in groups), UPLOADS]
    inside = mask[reach.chunk]
    frames = account.ledger.chunks.frame_bytes[reach.chunk[inside]]
    sizes: Integers = sum_by(reach.owner[inside], frames, len(names))
    ranked = sorted((-size, name) for size, name in zip(sizes.tolist(), names, strict=True))
    return tuple(name for size, name in ranked if size and name not in without)[:_NAMES]


def _repo_of(line: CommitLine) -> str:
    return line.repo
