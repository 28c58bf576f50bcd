"""A family as planning sees it: its chunks, how they are stored now, and what to change."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import xxhash

from ...codecs.frame import CODEC_IDS
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.sketches.near import find_near
from ...store.catalogue.sketches.peers import Peers, Sorted, sort_chunks
from ...store.catalogue.sketches.sketches import FamilyRow, find_ids, read_trees
from ...store.packs import MAX_CHAIN
from ..model.inputs import CHAIN_LENGTH
from ..model.sketch import find_related
from .candidates import row_sketch
from .family_plan import Member, Plan, plan_family

# Raw bytes of a family that moves as a whole. The present centres of a larger one stay: its members
# may only join others.
MOST_FAMILY_BYTES = 1 << 30

# Less than this is hardly longer than its header.
_LEAST_CODED_BYTES = 512

RAW_CODEC = CODEC_IDS["raw"]


@dataclass(frozen=True)
class PlannedFamily:
    """Members of a family of one dtype and size in the order of their digests, the plan for them,
    and the `fingerprint` of what it was made from. `leader` is the chunk id that the family is
    known by: the lowest of those that are standalone. Chains have at most `length` deltas."""

    leader: int
    rows: list[FamilyRow]
    plan: Plan
    fingerprint: int
    length: int = CHAIN_LENGTH

    @cached_property
    def old(self) -> list[int | None]:
        """The present bases."""
        return _bases(self.rows)

    @cached_property
    def levels(self) -> list[int]:
        """The levels that members will have: one above their base, or more where their frames say
        so already and no chain becomes too long by that."""
        kept = self._levels(keeping=True)
        return self._levels(keeping=False) if max(kept) > self.length else kept

    def _levels(self, *, keeping: bool) -> list[int]:
        found: dict[int, int] = {}

        def level(i: int) -> int:
            base = self.plan.bases[i]
            if i not in found:
                least = 0 if base is None else level(base) + 1
                same = keeping and base == self.old[i] and base is not None
                found[i] = max(least, self.rows[i].place.level) if same else least
            return found[i]

        return [level(i) for i in range(len(self.rows))]

    def changes(self) -> list[int]:
        """The members that need another frame, those of lower levels first, then by base: so each
        base is read once."""
        changed = [i for i in range(len(self.rows)) if self._is_changed(i)]
        bases = [-1 if base is None else base for base in self.plan.bases]
        return sorted(changed, key=lambda i: (self.levels[i], bases[i]))

    def _is_changed(self, i: int) -> bool:
        moved = self.plan.bases[i] != self.old[i]
        is_delta = self.old[i] is not None
        other_level = is_delta and self.levels[i] != self.rows[i].place.level
        return moved or other_level or self._is_uncoded(i)

    def keeps_frame(self, i: int, new_bytes: int) -> bool:
        """Says whether a member is better off with the frame it has, and may keep it: its level
        must be below those of what shall be coded against it, and above that of its own base."""
        old, level = self.old[i], self.rows[i].place.level
        above = old is None or max(self.levels[old], self.rows[old].place.level) < level
        below = level <= self.levels[i] or i not in self.plan.bases
        fits = above and below and not self._is_deep(i)
        return fits and self.rows[i].place.frame_bytes <= new_bytes

    @property
    def is_too_deep(self) -> bool:
        """Whether members are in longer chains than there shall be: these must change, whatever it
        takes."""
        return any(self._is_deep(i) for i in range(len(self.rows)))

    @property
    def replaced_bytes(self) -> int:
        """Frame bytes of the members that need another frame."""
        return sum(self.rows[i].place.frame_bytes for i in self.changes())

    @property
    def has_uncoded(self) -> bool:
        """Whether a member is stored as it came, so that any coding may save."""
        return any(map(self._is_uncoded, range(len(self.rows))))

    def _is_deep(self, i: int) -> bool:
        # Nobody asked for less than what writers do: longer chains of others may stay.
        most = self.length if self.length < CHAIN_LENGTH else MAX_CHAIN
        return self.old[i] is not None and self.rows[i].place.level > most

    def _is_uncoded(self, i: int) -> bool:
        return is_uncoded(self.rows[i])


def is_uncoded(row: FamilyRow) -> bool:
    """Says whether a chunk is stored as it is and long enough for a codec to make a difference."""
    return row.codec == RAW_CODEC and row.place.raw_bytes >= _LEAST_CODED_BYTES


def find_centres(catalogue: Catalogue, row: FamilyRow, peers: Peers) -> set[int]:
    """Returns the ids of the chunks of a family that are standalone: those related to `row`, as far
    as the owners of its `peers` may read them, and `row` itself or its base."""
    if row.sketch is None:
        return {row.chunk_id}
    near = find_near(catalogue, row.sketch, peers.scopes)
    related = find_related(row.sketch.bits, [bits for _, bits in near])
    return find_ids(catalogue, [_root_of(catalogue, row)]) | {near[i][0] for i in related}


def _root_of(catalogue: Catalogue, row: FamilyRow) -> bytes:
    """Returns the standalone chunk that a chunk rests on, or is."""
    place = row.place
    while place.base is not None:
        found = catalogue.locate([place.base]).get(place.base)
        if found is None:
            return place.base
        place = found
    return place.digest


def plan_around(
    catalogue: Catalogue,
    centres: set[int],
    like: FamilyRow,
    peers: Peers,
    *,
    uncoded: bool,
    family: Collection[FamilyRow] | None = None,
    length: int = CHAIN_LENGTH,
) -> PlannedFamily | None:
    """Returns the family of the deltas that rest on `centres`, as far as its members are `peers`
    and have the dtype and the size of `like`, with its plan; None where there is nothing to plan,
    or nothing came of the same plan before. Members that are stored as they came count if
    `uncoded`. `family`: the centres and these deltas, where they have been read. `length`: that of
    chains at most."""
    read = read_trees(catalogue, centres) if family is None else family
    rows = sorted(read, key=lambda row: row.place.digest)
    found = sort_chunks(catalogue, peers, [row.chunk_id for row in rows])
    known = found.peers | found.bases
    fingerprint = _fingerprint([row for row in rows if row.chunk_id in known], length)
    leader = min(centres) if peers.everybody else min(found.peers, default=like.chunk_id)
    if any(row.planned == fingerprint for row in rows if row.chunk_id == leader):
        return None
    alike = [row for row in rows if row.sketch is not None and _alike(row, like)]
    alike = [row for row in alike if row.chunk_id in found.peers or _is_base(row, found)]
    # Of what is too short to have words nothing can be predicted but that it is standalone.
    alike = [r for r in alike if r.chunk_id == like.chunk_id or _has_words(r)]
    # What no commit needs any more is to go: nothing shall come to depend on it.
    needed = {row.place.base for row in rows if row.live}
    alone = {
        row.place.digest
        for row in alike
        if row.place.base is None and (row.live or row.place.digest in needed)
    }
    if not uncoded:
        alike = [row for row in alike if not is_uncoded(row)]
    mine = _list_members(alike, alone)
    if len(mine) < 2 and not any(map(is_uncoded, mine)):
        return None
    plan = plan_family(_members(mine, rows, found.peers), length)
    return PlannedFamily(leader, mine, plan, fingerprint, length)


def _list_members(alike: Sequence[FamilyRow], alone: set[bytes]) -> list[FamilyRow]:
    """Returns those that are `alone` or rest on these. A delta on a chunk of another size stays
    what it is, and so does what rests on that."""
    known: set[bytes] = set()
    for row in sorted(alike, key=lambda row: row.place.level):
        base = row.place.base
        if base in known or (base is None and row.place.digest in alone):
            known.add(row.place.digest)
    return [row for row in alike if row.place.digest in known]


def _has_words(row: FamilyRow) -> bool:
    return row.sketch is not None and bool(row.sketch.words)


def _is_base(row: FamilyRow, found: Sorted) -> bool:
    """Says whether a chunk of others is one to code against as it is."""
    return row.chunk_id in found.bases and row.place.base is None and not is_uncoded(row)


def _alike(row: FamilyRow, like: FamilyRow) -> bool:
    assert row.sketch is not None
    assert like.sketch is not None
    same = row.sketch.dtype == like.sketch.dtype
    return same and row.place.raw_bytes == like.place.raw_bytes


def _members(mine: list[FamilyRow], rows: list[FamilyRow], peers: set[int]) -> list[Member]:
    """Those of `rows` that are planned; what a delta outside them needs is fixed, and so is what is
    none of the `peers`."""
    position = {row.place.digest: i for i, row in enumerate(mine)}
    outside: dict[bytes, int] = {}
    for r in rows:
        if r.place.digest not in position and (base := r.place.base) is not None:
            outside[base] = min(r.place.level, outside.get(base, r.place.level))
    large = sum(row.place.raw_bytes for row in mine) > MOST_FAMILY_BYTES
    members: list[Member] = []
    for row in mine:
        assert row.sketch is not None
        base = None if row.place.base is None else position[row.place.base]
        coded = not is_uncoded(row)
        others = row.place.digest in outside or row.chunk_id not in peers
        kept = (large and coded) or others
        fixed = row.place.base is None and kept
        ceiling = outside.get(row.place.digest, CHAIN_LENGTH + 1) - 1
        kind = (fixed, coded, ceiling, row.live)
        members.append(Member(row_sketch(row.sketch), row.place.frame_bytes, base, *kind))
    return members


def _bases(rows: Sequence[FamilyRow]) -> list[int | None]:
    position = {row.place.digest: i for i, row in enumerate(rows)}
    return [None if r.place.base is None else position[r.place.base] for r in rows]


def _fingerprint(rows: Sequence[FamilyRow], length: int) -> int:
    """Differs when a family has other members, they have other frames, or chains another length."""
    facts = [(r.chunk_id, r.place.frame_bytes, r.place.base) for r in rows]
    text = repr(facts if length == CHAIN_LENGTH else (length, facts))
    return xxhash.xxh3_64_intdigest(text.encode()) >> 1
