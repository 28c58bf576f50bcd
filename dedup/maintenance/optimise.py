"""Re-encodes families around better centres, a few at a time and beside live traffic.

A step plans some families from their sketches (family.py, family_plan.py), encodes what the plans
change, and keeps only those that really save bytes (reencode.py). There are two occasions.
`optimise_step` goes through all families. `recentre_step` looks only at those that a commit has
made twice as large: a member that came later may be the better centre, and planning at the 2nd,
4th, 8th … member keeps the sum near the best while no chunk is re-encoded more than about once in
its life.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial

from ...store.cancel import check_cancelled
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.owners import newcomer_scope
from ...store.catalogue.sketches.peers import Peers, other_groups_on, peers_of, sort_chunks
from ...store.catalogue.sketches.sharing import find_lonely
from ...store.catalogue.sketches.sketches import (
    FamilyRow,
    count_centres,
    list_centres,
    list_newcomers,
    read_family,
)
from ...store.catalogue.tombstones import count_pack_bytes
from ..model.inputs import CHAIN_LENGTH
from ..progress import Progress
from ..repository.repository import Repository
from ..similarity.family import RAW_CODEC, PlannedFamily, find_centres, plan_around
from ..similarity.newcomers import Newcomers
from ..similarity.reads_bound import keep_max_reads, planned_length
from ..vault import Optimised, OptimiseStep
from .derive import derive_chunks
from .reencode import Reencoding, saves

# A step ends after this much raw data was encoded, or this many chunks or seconds: so that its
# changes are soon in use, and little is lost when it is stopped.
STEP_BYTES = 256 * 1024 * 1024
STEP_CHUNKS = 500
STEP_SECONDS = 20.0
# Or this share of what is stored, since frames that are replaced go when a step ends, not before.
STEP_SHARE = 0.125
LEAST_STEP_BYTES = 4 * 1024 * 1024

# What a new plan must promise at a push: this share of the family's bytes, and of the frames that
# it replaces, which are garbage until a collection. With the real deltas of 40 families of 5 to 20
# members, in random orders, that leaves 4.6 % more stored than the best plan, and 0.39 times as
# much garbage. Without the second it would be 1.9 % and 0.59, with 0.25 for it 8.9 % and 0.27.
RECENTRE_GAIN = 0.05
RECENTRE_YIELD = 0.15


@dataclass(slots=True)
class _Tally:
    """What a step has done so far."""

    looked: int = 0
    families: int = 0
    changed: int = 0
    chunks: int = 0
    before: int = 0
    after: int = 0
    freed: int = 0

    def count(self, chunks: int, before: int, after: int) -> None:
        self.changed += 1
        self.chunks += chunks
        self.before += before
        self.after += after

    def count_predicted(self, family: PlannedFamily) -> None:
        self.count(len(family.changes()), family.plan.before, family.plan.after)

    def step(self, cursor: int | None) -> OptimiseStep:
        return OptimiseStep(**asdict(self), cursor=cursor)


def optimise_all(
    vault: Repository, *, dry_run: bool, progress: Progress, reads: int | None = None
) -> Optimised:
    """Does all steps; see Vault.optimise_all. Raises InvalidInput for a bound that is none."""
    if reads is not None and not dry_run:
        keep_max_reads(vault.catalogue, reads)
    cursor: int | None = 0
    done = Optimised()
    left = count_centres(vault.catalogue, uncoded=RAW_CODEC)
    with progress.running("optimising", left, "chunks"):
        while cursor is not None:
            step = optimise_step(vault, cursor, dry_run=dry_run, reads=reads)
            sums = {f.name: getattr(done, f.name) + getattr(step, f.name) for f in fields(done)}
            done, cursor = Optimised(**sums), step.cursor
            # Around what is re-encoded, families have other centres than were counted.
            seen = left if cursor is None else min(step.looked, left)
            left -= seen
            progress.advance(seen)
    return done


def optimise_step(
    vault: Repository, cursor: int, *, dry_run: bool, reads: int | None = None
) -> OptimiseStep:
    """Does one step from `cursor` on; see LocalVault.optimise."""
    length = planned_length(vault.catalogue, reads)
    chunks = list_centres(vault.catalogue, cursor, STEP_CHUNKS, uncoded=RAW_CODEC)
    find = partial(_led_families, length=length)
    step = _step(vault, chunks, cursor, find, _pays, dry_run=dry_run)
    if dry_run:
        # What a recipe would save is known once it has been tried.
        return step
    last = chunks[-1].chunk_id if step.cursor is None and chunks else step.cursor or 0
    derived = derive_chunks(vault, [row for row in chunks if row.chunk_id <= last])
    return replace(
        step,
        chunks=step.chunks + derived.chunks,
        before=step.before + derived.before,
        after=step.after + derived.after,
    )


def recentre_step(vault: Repository, repo: str, commit: str, cursor: int) -> OptimiseStep:
    """Does one step of the chunks that came with the commit of this id; see Vault.recentre."""
    with vault.catalogue.reading() as connection:
        scope = newcomer_scope(connection, repo)
    chunks = list_newcomers(vault.catalogue, repo, commit, cursor, STEP_CHUNKS, scope)
    return _grown_step(vault, chunks, cursor)


def recentre_chunks(vault: Repository, chunk_ids: Collection[int]) -> None:
    """Does as recentre_step for chunks that were recorded before and are coded only now."""
    known = read_family(vault.catalogue, chunk_ids)
    ordered = sorted((c for c in known if c.chunk_id in chunk_ids), key=lambda c: c.chunk_id)
    done: int | None = 0
    while done is not None:
        left = [chunk for chunk in ordered if chunk.chunk_id > done]
        done = _grown_step(vault, left, done).cursor


def _grown_step(vault: Repository, chunks: Sequence[FamilyRow], cursor: int) -> OptimiseStep:
    """Does one step of chunks that are new. A family of one has not grown, and most are."""
    lonely = find_lonely(vault.catalogue, chunks)
    looked = [c for c in chunks if c.chunk_id not in lonely]
    length = planned_length(vault.catalogue) if looked else CHAIN_LENGTH
    newcomers = Newcomers(vault.catalogue, looked, length)

    def find(_catalogue: Catalogue, newcomer: FamilyRow) -> list[PlannedFamily]:
        return [] if newcomer.chunk_id in lonely else newcomers.grown_family(newcomer)

    return _step(vault, chunks, cursor, find, _pays_at_once, dry_run=False)


def _step(
    vault: Repository,
    chunks: Sequence[FamilyRow],
    cursor: int,
    find: Callable[[Catalogue, FamilyRow], Sequence[PlannedFamily]],
    pays: Callable[[PlannedFamily], bool],
    *,
    dry_run: bool,
) -> OptimiseStep:
    """Re-encodes the families that `find` gives for `chunks`, which are in the order of their ids,
    where it `pays`; each family once."""
    tally, seen, done = _Tally(), set[int](), cursor
    stop = time.monotonic() + STEP_SECONDS
    share = int(STEP_SHARE * count_pack_bytes(vault.catalogue))
    most = min(STEP_BYTES, max(LEAST_STEP_BYTES, share))
    with Reencoding(vault) as recoding:
        for chunk in chunks:
            check_cancelled()
            done = chunk.chunk_id
            tally.looked += 1
            for family in find(vault.catalogue, chunk):
                if family.leader not in seen:
                    seen.add(family.leader)
                    tally.families += 1
                    if pays(family):
                        tally.count_predicted(family) if dry_run else recoding.add(family)
            if recoding.encoded >= most or time.monotonic() > stop:
                break
        recoding.finish(tally.count)
        tally.freed += recoding.freed
    ended = not chunks or (len(chunks) < STEP_CHUNKS and done == chunks[-1].chunk_id)
    return tally.step(None if ended else done)


def _led_families(catalogue: Catalogue, centre: FamilyRow, *, length: int) -> list[PlannedFamily]:
    """Returns the family around a centre, unless it comes up with another one of its centres, or
    was collected or became a delta meanwhile; and of others who build on the centre, the families
    that have no centre of their own."""
    peers = peers_of(catalogue, centre.chunk_id)
    if peers is None:
        return []
    found = [_led_family(catalogue, centre, centre, peers, length)]
    others = other_groups_on(catalogue, peers, centre.chunk_id)
    for row in read_family(catalogue, others) if others else ():
        its_peers = peers_of(catalogue, row.chunk_id) if row.chunk_id in others else None
        if its_peers is not None:
            found.append(_led_family(catalogue, centre, row, its_peers, length))
    return [family for family in found if family is not None]


def _led_family(
    catalogue: Catalogue, centre: FamilyRow, like: FamilyRow, peers: Peers, length: int
) -> PlannedFamily | None:
    """Returns the family of `like` if `centre` is the first of its centres; the first of those of
    `peers`, if there is one."""
    centres = find_centres(catalogue, like, peers)
    own = sort_chunks(catalogue, peers, centres).peers
    if min(own or centres, default=None) != centre.chunk_id:
        return None
    return plan_around(catalogue, centres, like, peers, uncoded=True, length=length)


def _pays(family: PlannedFamily) -> bool:
    must = family.has_uncoded or family.is_too_deep
    return must or saves(family.plan.before, family.plan.after)


def _pays_at_once(family: PlannedFamily) -> bool:
    gain = family.plan.before - family.plan.after
    enough = max(RECENTRE_GAIN * family.plan.before, RECENTRE_YIELD * family.replaced_bytes)
    return saves(family.plan.before, family.plan.after) and gain >= enough
