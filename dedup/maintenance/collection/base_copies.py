"""Keeps bases that many deltas need twice, in packs of their own."""

from __future__ import annotations

from typing import Protocol, TypeVar

from ....store.catalogue.damage import bases_without_copy
from ....store.catalogue.tables.rows import Location
from ...progress import Progress
from ...repository.frame_reader import read_frames
from ...repository.pack_writing import PACK_BYTES
from ...repository.repository import Repository
from ...transfer.new_frames import TemporaryPack


class Sized(Protocol):
    """Something that takes up part of a pack."""

    @property
    def frame_bytes(self) -> int:
        """Bytes of the frame."""
        ...


T = TypeVar("T", bound=Sized)


def copy_bases(vault: Repository, least_deltas: int, progress: Progress) -> int:
    """Gives each base of at least so many deltas that has no second frame one; returns the bytes
    of those frames. Collections told of the same number keep them."""
    places = bases_without_copy(vault.catalogue, least_deltas)
    total = sum(place.frame_bytes for place in places)
    with progress.running("copying bases", total):
        while places:
            batch = first_pack(places)
            places = places[len(batch) :]
            progress.advance(_store_copies(vault, batch))
    return total


def first_pack(places: list[T]) -> list[T]:
    """Returns those of `places` (that have `frame_bytes`) that go into the next pack of copies."""
    size = 0
    for count, place in enumerate(places, 1):
        size += place.frame_bytes
        if size >= PACK_BYTES:
            return places[:count]
    return places


def _store_copies(vault: Repository, places: list[Location]) -> int:
    with TemporaryPack(vault, "copies") as pack:
        frames = read_frames(vault.backend, vault.catalogue, [p.digest for p in places])
        for number, frame in enumerate(frames):
            pack.add(frame)
            if number == 0:
                # Twice, or a pack of nothing but these frames would be one and the same object.
                pack.add(frame)
        pack.store()
    return sum(place.frame_bytes for place in places)
