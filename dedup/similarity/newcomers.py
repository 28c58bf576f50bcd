"""Which families new chunks make twice as large, looked up for hundreds of chunks at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.owners import Sharing, sharing_of
from ...store.catalogue.sketches.peers import Peers, peers_of, sort_chunks
from ...store.catalogue.sketches.sharing import find_near_all
from ...store.catalogue.sketches.sketches import (
    FamilyRow,
    count_arrived,
    count_deltas,
    ids_by_digest,
    read_trees,
)
from ..model.inputs import CHAIN_LENGTH
from ..model.sketch import find_related
from .family import PlannedFamily, find_centres, plan_around

# New chunks whose families are looked up together.
_AT_ONCE = 128
# Members of a family that is read before it is known to have doubled.
_FEW_MEMBERS = 64


@dataclass(slots=True)
class _Known:
    """What was looked up of some new chunks, where all chunks are one group: the centres of the
    family of each, how many members these make at most, and those of the families of a few."""

    centres: dict[int, set[int]] = field(default_factory=dict)
    most: dict[int, int] = field(default_factory=dict)
    members: dict[int, list[FamilyRow]] = field(default_factory=dict)

    def family_of(self, centres: Collection[int]) -> list[FamilyRow]:
        """Returns the centres and the deltas that rest on them, which were read."""
        return [row for centre in centres for row in self.members.get(centre, ())]


class Newcomers:
    """Chunks that have just come, in the order of their ids, whose families are planned with chains
    of at most `length` deltas."""

    def __init__(
        self, catalogue: Catalogue, chunks: Sequence[FamilyRow], length: int = CHAIN_LENGTH
    ) -> None:
        self._catalogue = catalogue
        self._length = length
        self._chunks = [c for c in chunks if c.sketch is not None and c.sketch.kind is not None]
        self._next = 0
        self._known: _Known | None = None

    def grown_family(self, newcomer: FamilyRow) -> list[PlannedFamily]:
        """Returns the family of one of the chunks, which are to be asked for in their order, if it
        was the 2nd, 4th, 8th, ... member to arrive. Those that wait to be coded are left to who
        codes them."""
        if newcomer.sketch is None or newcomer.sketch.kind is None:
            return []
        if self._known is None or newcomer.chunk_id not in self._known.centres:
            self._look_up(newcomer.chunk_id)
        found = self._known
        if found is None or newcomer.chunk_id not in found.centres:
            return _grown_in_group(self._catalogue, newcomer, self._length)
        centres = found.centres[newcomer.chunk_id]
        few = found.most[newcomer.chunk_id] <= _FEW_MEMBERS
        if few:
            family = found.family_of(centres)
            number = sum(row.chunk_id <= newcomer.chunk_id for row in family)
        else:
            family = None
            number = count_arrived(self._catalogue, centres, newcomer.chunk_id)
        if not _has_doubled(number):
            return []
        planned = plan_around(
            self._catalogue,
            centres,
            newcomer,
            Peers(),
            uncoded=False,
            family=family,
            length=self._length,
        )
        return [] if planned is None else [planned]

    def _look_up(self, first: int) -> None:
        """Looks up some of the chunks from the one of the id `first` on."""
        self._known = None
        while self._next < len(self._chunks) and self._chunks[self._next].chunk_id < first:
            self._next += 1
        rows = self._chunks[self._next : self._next + _AT_ONCE]
        self._next += len(rows)
        with self._catalogue.reading() as connection:
            if sharing_of(connection) is not Sharing.FREE:
                return
        found = self._known = _Known()
        sketches = [row.sketch for row in rows if row.sketch is not None]
        ids = ids_by_digest(self._catalogue, {row.place.base or row.place.digest for row in rows})
        for row, sketch, near in zip(
            rows, sketches, find_near_all(self._catalogue, sketches), strict=True
        ):
            own = ids.get(row.place.base or row.place.digest)
            related = find_related(sketch.bits, [bits for _, bits in near]) if near else []
            centres = {near[i][0] for i in related} | ({own} if own is not None else set())
            found.centres[row.chunk_id] = centres
        self._read_members(found)

    def _read_members(self, found: _Known) -> None:
        """Reads the families that have but a few members."""
        wanted = {centre for centres in found.centres.values() for centre in centres}
        deltas = count_deltas(self._catalogue, wanted)
        found.most = {
            chunk: sum(1 + deltas.get(centre, 0) for centre in centres)
            for chunk, centres in found.centres.items()
        }
        few = {chunk for chunk, most in found.most.items() if most <= _FEW_MEMBERS}
        centres = {centre for chunk in few for centre in found.centres[chunk]}
        members: defaultdict[int, list[FamilyRow]] = defaultdict(list)
        owner: dict[bytes | None, int] = {}
        for row in sorted(read_trees(self._catalogue, centres), key=lambda row: row.place.level):
            centre = row.chunk_id if row.chunk_id in centres else owner.get(row.place.base)
            if centre is not None:
                owner[row.place.digest] = centre
                members[centre].append(row)
        found.members = members


def _grown_in_group(catalogue: Catalogue, newcomer: FamilyRow, length: int) -> list[PlannedFamily]:
    """As Newcomers.grown_family, of the chunks that may be bases of each other."""
    peers = peers_of(catalogue, newcomer.chunk_id)
    if peers is None:
        return []
    centres = find_centres(catalogue, newcomer, peers)
    if not _has_doubled(_count_arrived(catalogue, centres, newcomer.chunk_id, peers)):
        return []
    family = plan_around(catalogue, centres, newcomer, peers, uncoded=False, length=length)
    return [] if family is None else [family]


def _count_arrived(catalogue: Catalogue, centres: set[int], until: int, peers: Peers) -> int:
    """Returns how many of a family's chunks were recorded up to the one of the id `until`; of a
    group's, only those that its owners may build on."""
    if peers.everybody:
        return count_arrived(catalogue, centres, until)
    ids = [row.chunk_id for row in read_trees(catalogue, centres) if row.chunk_id <= until]
    found = sort_chunks(catalogue, peers, ids)
    return len(found.peers | found.bases)


def _has_doubled(number: int) -> bool:
    return number >= 2 and number.bit_count() == 1
