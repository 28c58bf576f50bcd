"""What frames need beside themselves (ARCHITECTURE.md, "Edges")."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from ...store.catalogue.tables.rows import Location

CHAIN_LENGTH = 4
"""Deltas that writers put in a chain at most; readers take up to `store.packs.MAX_CHAIN`."""

Locate = Callable[[Collection[bytes]], dict[bytes, Location]]


def locate_inputs(locate: Locate, places: Mapping[bytes, Location]) -> dict[bytes, Location]:
    """Returns where all lies that the frames at `places` need, directly or not, whether some of it
    is at `places` itself or not; what has no frame is left out."""
    asked: set[bytes] = set()
    found: dict[bytes, Location] = {}
    new = {digest for place in places.values() for digest in place.inputs}
    while new:
        here = {digest: places[digest] for digest in new if digest in places}
        more = here | locate(list(new - here.keys()))
        found |= more
        asked |= new
        new = {digest for place in more.values() for digest in place.inputs} - asked
    return found


def needed_by(place: Location, under: Mapping[bytes, Location]) -> set[bytes]:
    """Returns the digests of all that a frame needs, given where what it needs lies."""
    found: set[bytes] = set()
    new = set(place.inputs)
    while new:
        found |= new
        new = {d for digest in new if digest in under for d in under[digest].inputs} - found
    return found
