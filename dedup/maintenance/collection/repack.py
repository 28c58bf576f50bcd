"""Moves the frames that are still needed out of packs that are to disappear."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from typing import TypeVar

from ....store.catalogue.dependencies import usable_among
from ....store.catalogue.tables.rows import Location
from ....store.catalogue.tombstones import PackUse, live_places
from ...progress import Progress
from ...repository.frame_reader import read_frames
from ...repository.pack_writing import PACK_BYTES
from ...repository.repository import Repository
from ...transfer.new_frames import TemporaryPack, put_in_use

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Moved:
    """How many packs were emptied, the bytes of the frames moved, and of the packs written."""

    packs: int = 0
    frame_bytes: int = 0
    written: int = 0


def move_live_frames(
    vault: Repository,
    uses: Iterable[PackUse],
    progress: Progress,
    *,
    unneeded_too: bool = False,
) -> Moved:
    """Copies the live frames of packs into new ones and puts those in use, a new pack at a time.
    With `unneeded_too` the others that are in use go into packs of their own, which collections
    take once the grace of what was deleted has ended.

    Every frame is decoded and hashed on its way. Frames that were moved elsewhere meanwhile stay
    where they are.
    """
    listed = list(uses)
    progress.begin("compacting", sum(use.live_bytes for use in listed))
    try:
        places = ((use, live_places(vault.catalogue, use.name)) for use in listed)
        counts = [_move(vault, group, progress) for group in group_places(places)]
        if unneeded_too:
            others = ((use, live_places(vault.catalogue, use.name, live=False)) for use in listed)
            filled = ((use, left) for use, left in others if left)
            moved = [_move(vault, group, progress) for group in _gather(filled, _unneeded_bytes)]
            counts += [replace(each, packs=0) for each in moved]
    finally:
        progress.end()
    return Moved(*(sum(values) for values in zip(*map(astuple, counts), strict=True)))


def move_places(vault: Repository, pack: str, progress: Progress) -> int:
    """Moves those live frames of one pack to a new one that can be read; returns how many."""
    movable = _movable(vault, pack)
    places = [place for place in live_places(vault.catalogue, pack) if place.digest in movable]
    progress.begin("moving", sum(place.frame_bytes for place in places))
    try:
        moved = _move(vault, [places], progress) if places else Moved()
    finally:
        progress.end()
    return len(places) if moved.packs else 0


def _movable(vault: Repository, pack: str) -> set[bytes]:
    live = {place.digest for place in live_places(vault.catalogue, pack)}
    with vault.catalogue.reading() as connection:
        return usable_among(connection, live)


def group_uses(uses: Iterable[PackUse]) -> Iterator[list[PackUse]]:
    """Yields packs, as many together as have live frames for one new pack."""
    yield from _gather(((use, use) for use in uses), _live_bytes)


def group_places(packs: Iterable[tuple[PackUse, list[T]]]) -> Iterator[list[list[T]]]:
    """Yields what is live in packs, as many packs together as fit one new pack."""
    yield from _gather(((use, places) for use, places in packs if places), _live_bytes)


def _live_bytes(use: PackUse) -> int:
    return use.live_bytes


def _unneeded_bytes(use: PackUse) -> int:
    return max(0, use.used_bytes - use.live_bytes)


def _gather(
    packs: Iterable[tuple[PackUse, U]], bytes_of: Callable[[PackUse], int]
) -> Iterator[list[U]]:
    group: list[U] = []
    total = 0
    for use, value in packs:
        group.append(value)
        total += bytes_of(use)
        if total >= PACK_BYTES:
            yield group
            group, total = [], 0
    if group:
        yield group


def _move(vault: Repository, groups: list[list[Location]], progress: Progress) -> Moved:
    with TemporaryPack(vault, "compact") as pack:
        digests = [place.digest for places in groups for place in places]
        for frame in read_frames(vault.backend, vault.catalogue, digests):
            pack.add(frame)
            progress.advance(len(frame))
        name = pack.store()
    moved = put_in_use(vault, name, groups)
    done = [places for places in groups if places[0].digest in moved]
    frame_bytes = sum(place.frame_bytes for places in done for place in places)
    return Moved(len(done), frame_bytes, pack.bytes)
