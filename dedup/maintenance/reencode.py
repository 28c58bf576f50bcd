"""Writes new frames for families and puts them in use: a pack like one from outside, then one
transaction (store/catalogue/moved_frames.py). Killed at any moment it leaves frames that nothing
refers to."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...codecs.dtypes import BY_ID
from ...codecs.frame import frame_room
from ...store.catalogue.sketches.sketches import FamilyRow, mark_planned
from ...store.catalogue.tables.rows import Location
from ..errors import BaseMissing, ChunksMissing
from ..model.files.entries import ChunkUse
from ..reading.buffer_pool import BUFFERS
from ..reading.chunk_reader import Buffer, ChunkReader
from ..reading.timed_codecs import encode_into
from ..repository.frame_reader import read_frames
from ..repository.repository import Repository
from ..similarity.family import PlannedFamily
from ..transfer.new_frames import TemporaryPack, put_in_use
from .collection.release import release_moved

_log = logging.getLogger("weightvault.dedup")

# Less than this is not worth new frames, of which the old ones stay until a collection.
MIN_GAIN = 0.01
MIN_GAIN_BYTES = 256


def saves(before: int, after: int) -> bool:
    """Says whether going from `before` to `after` bytes is worth new frames."""
    return before - after >= max(MIN_GAIN_BYTES, MIN_GAIN * before)


@dataclass(frozen=True, slots=True)
class _Group:
    """Chunks of one family that have new frames: where the old ones are, and their bytes."""

    places: list[Location]
    before: int
    after: int


class Reencoding:
    """Gathers new frames of families in a pack; `finish` stores it and puts them in use.

    `encoded` counts raw bytes, `freed` bytes of objects that went for them less those that came. To
    be used with `with`, which removes what was not finished.
    """

    def __init__(self, vault: Repository) -> None:
        self.encoded = 0
        self.freed = 0
        self._vault = vault
        self._fetch = partial(read_frames, vault.backend, vault.catalogue)
        self._pack = TemporaryPack(vault, "optimise")
        self._groups: list[_Group] = []

    def __enter__(self) -> Reencoding:
        self._pack.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._pack.__exit__(*error)

    def add(self, family: PlannedFamily) -> None:
        """Encodes what the family's plan changes; keeps the frames if they save bytes, or chains
        are too long.

        They wait in a file until that is known: together they may exceed the memory there is. What
        is collected meanwhile is passed over.
        """
        try:
            self._add(family)
        except ChunksMissing as error:
            _log.warning("a family stays as it is: %s", error.message)

    def _add(self, family: PlannedFamily) -> None:
        moved: list[tuple[Location, int]] = []
        with tempfile.TemporaryFile(dir=self._pack.folder) as waiting:
            for i, frame in self._encode(family):
                if not family.keeps_frame(i, len(frame)):
                    waiting.write(frame)
                    moved.append((family.rows[i].place, len(frame)))
            before = sum(place.frame_bytes for place, _ in moved)
            after = sum(size for _, size in moved)
            saved = saves(family.plan.before, family.plan.before - before + after)
            if not saved and not family.is_too_deep:
                mark_planned(self._vault.catalogue, family.leader, family.fingerprint)
                return
            waiting.seek(0)
            for _, size in moved:
                self._pack.add(waiting.read(size))
        self._groups.append(_Group([place for place, _ in moved], before, after))

    def finish(self, count: Callable[[int, int, int], None]) -> None:
        """Stores the pack and puts its frames in use; tells `count` the chunks of each family that
        moved, and their frame bytes before and after: none where a base was collected meanwhile,
        which is left to the next run."""
        if self._pack.is_empty:
            return
        places = [group.places for group in self._groups]
        try:
            name = self._pack.store()
        except BaseMissing as error:
            _log.info("frames are not put in use: %s", error.message)
            return
        moved = put_in_use(self._vault, name, places)
        for group in self._groups:
            if group.places[0].digest in moved:
                count(len(group.places), group.before, group.after)
        self.freed += release_moved(self._vault, name, [p for group in places for p in group])

    def _encode(self, family: PlannedFamily) -> Iterator[tuple[int, Buffer]]:
        """Yields each changed member's position and new frame."""
        changes = family.changes()
        members = ChunkReader(self._fetch).read(_use(family.rows[i]) for i in changes)
        bases = ChunkReader(self._fetch)
        columns = self._vault.find_columns(family.leader)
        base: int | None = None
        base_raw: Buffer | None = None
        for i, raw in zip(changes, members, strict=True):
            if family.plan.bases[i] != base:
                base = family.plan.bases[i]
                base_raw = None if base is None else next(bases.read([_use(family.rows[base])]))
            row = family.rows[i]
            self.encoded += row.place.raw_bytes
            digest = None if base is None else family.rows[base].place.digest
            yield i, _encode_row(row, raw, base_raw, digest, columns, family.levels[i])


def _use(row: FamilyRow) -> ChunkUse:
    return ChunkUse(row.place.digest, 0, row.place.raw_bytes, "U8")


def _encode_row(
    row: FamilyRow,
    raw: Buffer,
    base: Buffer | None,
    base_digest: bytes | None,
    columns: int | None,
    level: int,
) -> Buffer:
    assert row.sketch is not None
    dtype, digest = BY_ID[row.sketch.dtype].name, row.place.digest
    room = BUFFERS.take(frame_room(row.place.raw_bytes))
    if base is None:
        return encode_into(room, raw, dtype, digest=digest, columns=columns)
    names = {"digest": digest, "base_digest": base_digest}
    return encode_into(room, raw, dtype, base=base, columns=columns, depth=level, **names)
