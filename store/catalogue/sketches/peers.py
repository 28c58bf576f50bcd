"""Which chunks of a family may be planned together: those that may be bases of each other.

Weights that everybody may read are one group. Each set of owners has a group of its own for what
only they have, and one for other content of theirs that is public. They may build on what all of
them may read besides; but that is not planned for them, or the plan of one would depend on what
another has.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from ..edges import is_derived, join_inputs
from ..owners import Holding, Sharing, reach_of, read_holdings, sharing_of
from ..tables.database import Database
from ..tables.rows import batches
from ..tables.schema import chunks
from ..visibility import Scope

_SHARED = ("weights",)


@dataclass(frozen=True, slots=True)
class Peers:
    """A group of chunks: what they have in common (`key`), one of them as an example, and the
    scopes that their bases are in. With the key () all chunks are in it."""

    key: tuple[Any, ...] = ()
    scopes: tuple[Scope, ...] = ()
    example: Holding | None = None
    sharing: Sharing = Sharing.FREE

    @property
    def everybody(self) -> bool:
        """Whether all chunks are in it."""
        return self.sharing is Sharing.FREE

    def allow(self, other: Holding) -> bool:
        """Says whether a chunk that is not in the group may be a base for all of it."""
        if self.example is None or self.key == _SHARED:
            return False
        return self.example.allows(other, self.sharing)


@dataclass(frozen=True, slots=True)
class Sorted:
    """Chunks by what they are to a group: `peers` are in it, `bases` may only be bases."""

    peers: set[int]
    bases: set[int]


def peers_of(catalogue: Database, chunk_id: int) -> Peers | None:
    """Returns the group that a chunk is in; None for one that nothing may be planned with."""
    with catalogue.reading() as connection:
        sharing = sharing_of(connection)
        if sharing is Sharing.FREE:
            return Peers()
        holding = read_holdings(connection, [chunk_id])[chunk_id]
    key = holding.group(sharing)
    if key is None:
        return None
    reach = reach_of(holding.owners, sharing, shown=holding.shown)
    scopes = reach.texts if holding.opaque else reach.weights
    if key == _SHARED and sharing is Sharing.OWN:
        scopes = (Scope(public=True),)
    return Peers(key, scopes, holding, sharing)


def sort_chunks(catalogue: Database, peers: Peers, chunk_ids: Collection[int]) -> Sorted:
    """Tells those of `chunk_ids` that are in a group from those that it may build on."""
    if peers.everybody:
        return Sorted(set(chunk_ids), set())
    with catalogue.reading() as connection:
        holdings = read_holdings(connection, chunk_ids)
    mine = {i for i, one in holdings.items() if one.group(peers.sharing) == peers.key}
    return Sorted(mine, {i for i, one in holdings.items() if i not in mine and peers.allow(one)})


def other_groups_on(catalogue: Database, peers: Peers, chunk_id: int) -> list[int]:
    """Returns, of each other group that has deltas on a chunk, the first of these."""
    if peers.everybody:
        return []
    pairs, source = join_inputs()
    query = select(chunks.c.id).select_from(pairs).where(~is_derived())
    first: dict[tuple[Any, ...] | None, int] = {peers.key: chunk_id, None: chunk_id}
    with catalogue.reading() as connection:
        ids = list(connection.scalars(query.where(source.c.id == chunk_id).order_by(chunks.c.id)))
        for batch in batches(ids):
            for i, holding in read_holdings(connection, batch).items():
                first.setdefault(holding.group(peers.sharing), i)
    return sorted(set(first.values()) - {chunk_id})
