"""What the objects of the store are there for: metadata, garbage, live frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from ...store.catalogue.reports.inventory import Inventory, PackLine
from ...store.object_keys import (
    JOURNAL,
    MANIFESTS,
    PACKS,
    SKETCHES,
    folder_of,
    manifest_key,
    pack_key,
    sketches_key,
)
from ..model.report import Garbage, Metadata


@dataclass(frozen=True, slots=True)
class Contents:
    """What a store holds besides live frames, and the bytes of packs that it should hold."""

    metadata: Metadata
    garbage: Garbage
    missing: int


def weigh_objects(
    sizes: Mapping[str, int],
    inventory: Inventory,
    live: Mapping[int, int],
    catalogue_bytes: int | None,
    grace_seconds: float,
) -> Contents:
    """Says what each object is there for, given all objects' bytes by key, and the live frame
    bytes of packs by their id."""
    needed = [p for p in inventory.packs if live.get(p.id) or p.id in inventory.kept]
    frames = {pack_key(p.name): p for p in needed}
    beside = {sketches_key(p.name) for p in needed}
    manifests = {manifest_key(name) for name in inventory.manifests}
    totals: defaultdict[str, int] = defaultdict(int)
    waste: dict[str, int] = {}
    for key, size in sizes.items():
        kind = folder_of(key)
        if key in frames:
            totals["indexes"] += size - frames[key].frame_bytes
        elif key in beside or key in manifests:
            totals[_METADATA[kind]] += size
        elif kind in (PACKS, *_METADATA):
            waste[key] = size
        else:
            totals["journal" if kind == JOURNAL else "other"] += size
    copies, dead = _spare_frames(needed, inventory.kept, live)
    return Contents(
        Metadata(**_parts(totals), copies=copies, catalogue=catalogue_bytes),
        _garbage(waste, inventory, dead, grace_seconds),
        sum(_missing(p) for p in needed if pack_key(p.name) not in sizes),
    )


_METADATA = {SKETCHES: "sketches", MANIFESTS: "manifests"}


def _missing(pack: PackLine) -> int:
    # Its index was not counted either.
    return pack.frame_bytes


def _parts(totals: Mapping[str, int]) -> dict[str, int]:
    names = ("indexes", "sketches", "manifests", "journal", "other")
    return {name: totals.get(name, 0) for name in names}


def _spare_frames(
    packs: list[PackLine], kept: set[int], live: Mapping[int, int]
) -> tuple[int, int]:
    """Bytes of frames that are not live in packs that stay: those kept on purpose, and the dead."""
    copies = sum(p.frame_bytes - live.get(p.id, 0) for p in packs if p.id in kept)
    dead = sum(p.frame_bytes - live.get(p.id, 0) for p in packs if p.id not in kept)
    return copies, dead


def _garbage(
    waste: Mapping[str, int], inventory: Inventory, dead: int, grace_seconds: float
) -> Garbage:
    tombs = inventory.tombstones
    # The sketches of a pack go with it.
    retired = {key for key in waste if key in tombs or _pack_of(key) in tombs}
    since = [tombs[key].since for key in waste if key in tombs]
    return Garbage(
        objects=len(waste),
        objects_bytes=sum(waste.values()),
        retired=len(retired),
        retired_bytes=sum(waste[key] for key in retired),
        ends=min(since) + grace_seconds if since else None,
        grace_seconds=grace_seconds,
        dead_frames=dead,
    )


def _pack_of(key: str) -> str:
    return PACKS + key.removeprefix(SKETCHES) if key.startswith(SKETCHES) else key
