"""Codes families anew around better centres, a few at a time and beside live traffic.

A step plans some families from their sketches (plan.py), encodes what the plans change, and keeps
only those that really save bytes. The new frames go into a pack, which is verified and stored like
one from outside; then one transaction puts them in use, family by family, as a whole or not at all
(store/moves.py). Killed at any moment it leaves frames that nothing refers to, and no more.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from ..codecs.dtypes import BY_ID
from ..codecs.pipeline import encode_tensor
from ..store.catalogue import Catalogue
from ..store.moves import adopt_frames
from ..store.pack import PackWriter
from ..store.rows import Location
from ..store.sketches import FamilyRow, find_near, list_centres, mark_planned, read_family
from . import journal
from .candidates import row_sketch
from .chunks import Buffer, ChunkReader
from .frames import read_frames
from .manifest import ChunkUse
from .packing import add_frame
from .plan import Member, Plan, plan_family
from .sketch import find_related
from .vault import OptimiseStep

if TYPE_CHECKING:
    from .local import LocalVault

# A step ends after this much raw data was encoded, or this many families or seconds: it answers
# one HTTP request, and stopping waits for no more than one family.
STEP_BYTES = 256 * 1024 * 1024
STEP_CENTRES = 500
STEP_SECONDS = 20.0

# Less than this is not worth new frames, of which the old ones stay until a collection.
MIN_GAIN = 0.01
MIN_GAIN_BYTES = 256

# Raw bytes of a family that moves as a whole. The present centres of a larger one stay: its members
# may only join others.
MOST_FAMILY_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class _Family:
    """A family in the order of its digests, with its plan and what it was planned from."""

    centre: int
    rows: list[FamilyRow]
    plan: Plan
    fingerprint: int

    def changes(self) -> list[int]:
        """The members that the plan gives another base, new centres first, then by base: so each
        base is read once."""
        pairs = zip(self.plan.bases, _bases(self.rows), strict=True)
        changed = [i for i, (new, old) in enumerate(pairs) if new != old]
        return sorted(changed, key=lambda i: -1 if (b := self.plan.bases[i]) is None else b)

    def keeps_frame(self, i: int, new_bytes: int) -> bool:
        """Says whether a member is better off with the frame it has, and may keep it."""
        old = _bases(self.rows)[i]
        valid = self.plan.bases[i] is not None if old is None else self.plan.bases[old] is None
        return valid and self.rows[i].place.frame_bytes <= new_bytes


@dataclass(slots=True)
class _Tally:
    """What a step has done so far; `encoded` is raw bytes."""

    families: int = 0
    changed: int = 0
    chunks: int = 0
    before: int = 0
    after: int = 0
    encoded: int = 0

    def count(self, chunks: int, before: int, after: int) -> None:
        self.changed += 1
        self.chunks += chunks
        self.before += before
        self.after += after

    def count_predicted(self, family: _Family) -> None:
        self.count(len(family.changes()), family.plan.before, family.plan.after)

    def step(self, cursor: int | None) -> OptimiseStep:
        return OptimiseStep(
            self.families, self.changed, self.chunks, self.before, self.after, cursor
        )


def optimise_step(vault: LocalVault, cursor: int, *, dry_run: bool) -> OptimiseStep:
    """Does one step from `cursor` on; see Vault.optimise."""
    tally = _Tally()
    stop = time.monotonic() + STEP_SECONDS
    centres = list_centres(vault.catalogue, cursor, STEP_CENTRES)
    done = cursor
    with _Recoding(vault, tally) as recoding:
        for centre in centres:
            done = centre.chunk_id
            family = _find_family(vault.catalogue, centre)
            tally.families += family is not None
            if family is not None and _saves(family.plan.before, family.plan.after):
                tally.count_predicted(family) if dry_run else recoding.add(family)
            if tally.encoded >= STEP_BYTES or time.monotonic() > stop:
                break
        recoding.finish()
    ended = not centres or (len(centres) < STEP_CENTRES and done == centres[-1].chunk_id)
    return tally.step(None if ended else done)


def _find_family(catalogue: Catalogue, centre: FamilyRow) -> _Family | None:
    """Returns the family around a centre with its plan; None where there is nothing to plan, it
    was planned as it is, or comes up with another centre."""
    if centre.sketch is None:
        return None
    near = find_near(catalogue, centre.sketch)
    related = find_related(centre.sketch.bits, [bits for _, bits in near])
    ids = {centre.chunk_id} | {near[i][0] for i in related}
    if min(ids) != centre.chunk_id:
        return None
    rows = sorted(read_family(catalogue, ids), key=lambda row: row.place.digest)
    fingerprint = _fingerprint(rows)
    if len(rows) < 2 or centre.planned == fingerprint:
        return None
    like = [r for r in rows if r.sketch is not None and _alike(r, centre)]
    plan = plan_family(_members(like, rows))
    return _Family(centre.chunk_id, like, plan, fingerprint)


def _alike(row: FamilyRow, centre: FamilyRow) -> bool:
    assert row.sketch is not None
    assert centre.sketch is not None
    same = row.sketch.dtype == centre.sketch.dtype
    return same and row.place.raw_bytes == centre.place.raw_bytes


def _members(like: list[FamilyRow], rows: list[FamilyRow]) -> list[Member]:
    """Those of `rows` that can be planned; what a delta outside them needs is fixed."""
    position = {row.place.digest: i for i, row in enumerate(like)}
    outside = {r.place.base for r in rows if r.place.digest not in position}
    large = sum(row.place.raw_bytes for row in like) > MOST_FAMILY_BYTES
    members: list[Member] = []
    for row in like:
        assert row.sketch is not None
        base = None if row.place.base is None else position.get(row.place.base)
        fixed = row.place.base is None and (large or row.place.digest in outside)
        members.append(Member(row_sketch(row.sketch), row.place.frame_bytes, base, fixed))
    return members


def _bases(rows: Sequence[FamilyRow]) -> list[int | None]:
    position = {row.place.digest: i for i, row in enumerate(rows)}
    return [None if r.place.base is None else position.get(r.place.base) for r in rows]


def _fingerprint(rows: Sequence[FamilyRow]) -> int:
    """Differs when a family has other members, or they have other frames."""
    text = repr([(r.chunk_id, r.place.frame_bytes, r.place.base) for r in rows])
    return xxhash.xxh3_64_intdigest(text.encode()) >> 1


def _saves(before: int, after: int) -> bool:
    return before - after >= max(MIN_GAIN_BYTES, MIN_GAIN * before)


@dataclass(frozen=True, slots=True)
class _Group:
    """Chunks of one family that have new frames: where the old ones are, and their bytes."""

    places: list[Location]
    before: int
    after: int


class _Recoding:
    """Gathers new frames of families in a pack; `finish` stores it and puts them in use."""

    def __init__(self, vault: LocalVault, tally: _Tally) -> None:
        self._vault = vault
        self._tally = tally
        self._fetch = partial(read_frames, vault.backend, vault.catalogue)
        self._folder = tempfile.TemporaryDirectory(prefix="optimise-", dir=vault.scratch)
        self._path = Path(self._folder.name, "pack")
        self._writer: PackWriter | None = None
        self._groups: list[_Group] = []

    def __enter__(self) -> _Recoding:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.abort()
        self._folder.cleanup()

    def add(self, family: _Family) -> None:
        """Encodes what the family's plan changes; keeps the frames if they save bytes.

        They wait in a file until that is known: together they may exceed the memory there is.
        """
        moved: list[tuple[Location, int]] = []
        with tempfile.TemporaryFile(dir=self._folder.name) as waiting:
            for i, frame in self._encode(family):
                if not family.keeps_frame(i, len(frame)):
                    waiting.write(frame)
                    moved.append((family.rows[i].place, len(frame)))
            before = sum(place.frame_bytes for place, _ in moved)
            after = sum(size for _, size in moved)
            if not _saves(family.plan.before, family.plan.before - before + after):
                mark_planned(self._vault.catalogue, family.centre, family.fingerprint)
                return
            waiting.seek(0)
            for _, size in moved:
                self._write(waiting.read(size))
        self._groups.append(_Group([place for place, _ in moved], before, after))

    def finish(self) -> None:
        """Stores the pack and puts its frames in use."""
        if self._writer is None:
            return
        name, self._writer = self._writer.finish(), None
        self._vault.add_pack(self._path, name)

        def publish(moved: list[bytes]) -> str:
            moves = journal.Moves(name, tuple(moved), time.time())
            return journal.write_entry(self._vault.backend, moves)

        places = [group.places for group in self._groups]
        moved = set(adopt_frames(self._vault.catalogue, name, places, publish))
        for group in self._groups:
            if group.places[0].digest in moved:
                self._tally.count(len(group.places), group.before, group.after)

    def _encode(self, family: _Family) -> Iterator[tuple[int, bytes]]:
        """Yields each changed member's position and new frame."""
        changes = family.changes()
        members = ChunkReader(self._fetch).read(_use(family.rows[i]) for i in changes)
        bases = ChunkReader(self._fetch)
        columns = self._vault.find_columns(family.centre)
        base: int | None = None
        base_raw: Buffer | None = None
        for i, raw in zip(changes, members, strict=True):
            if family.plan.bases[i] != base:
                base = family.plan.bases[i]
                base_raw = None if base is None else next(bases.read([_use(family.rows[base])]))
            row = family.rows[i]
            self._tally.encoded += row.place.raw_bytes
            digest = None if base is None else family.rows[base].place.digest
            yield i, _encode_row(row, raw, base_raw, digest, columns)

    def _write(self, frame: bytes) -> None:
        if self._writer is None:
            self._writer = PackWriter(self._path)
        add_frame(self._writer, frame)


def _use(row: FamilyRow) -> ChunkUse:
    return ChunkUse(row.place.digest, 0, row.place.raw_bytes, "U8")


def _encode_row(
    row: FamilyRow,
    raw: Buffer,
    base: Buffer | None,
    base_digest: bytes | None,
    columns: int | None,
) -> bytes:
    assert row.sketch is not None
    dtype, digest = BY_ID[row.sketch.dtype].name, row.place.digest
    if base is None:
        return encode_tensor(raw, dtype, digest=digest)
    return encode_tensor(
        raw, dtype, base=base, digest=digest, base_digest=base_digest, columns=columns
    )
