"""Re-encodes deltas whose base shall be computed from one of them, so that it may be.

A copy that came before its source is what the source is a delta on, and nothing may need a chunk
of a lower level than its own. So the source gets a standalone frame, and other deltas are encoded
against that, if all of it together saves bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from ...codecs.buffers import Bytes
from ...codecs.dtypes import BY_ID
from ...codecs.pipeline import encode_tensor
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.edges import read_dependents
from ...store.catalogue.queues.encode_queue import allowed_bases
from ...store.catalogue.sketches.sketches import FamilyRow, read_family
from ...store.catalogue.tables.rows import Location
from ...store.packs import DERIVED
from ..similarity.candidates import row_sketch
from ..similarity.size_prediction import predict_deltas

# More deltas than this are not encoded for one copy.
_MOST_DELTAS = 8

Load = Callable[[bytes, int], Bytes]
"""Gives the raw bytes of a chunk by its digest and their number."""


def list_deltas(catalogue: Catalogue, digest: bytes) -> list[FamilyRow] | None:
    """Returns the deltas on a chunk; None where there are too many, or where others are computed
    from it."""
    with catalogue.reading() as connection:
        found = list(read_dependents(connection, [digest]))
    if len(found) > _MOST_DELTAS or any(edge.level == DERIVED for edge in found):
        return None
    rows = read_family(catalogue, [edge.chunk_id for edge in found])
    return rows if all(row.sketch is not None for row in rows) else None


def encode_without(
    catalogue: Catalogue,
    deltas: Collection[FamilyRow],
    inputs: Collection[bytes],
    load: Load,
    columns: int,
) -> list[tuple[Location, bytes]]:
    """Returns frames for deltas that do without their base, first that of one of `inputs`, if there
    is one among them, which others are encoded against."""
    costs = _costs(deltas)
    ordered = sorted(deltas, key=lambda row: (row.place.digest not in inputs, costs[row.chunk_id]))
    centre: tuple[bytes, Bytes] | None = None
    frames: list[tuple[Location, bytes]] = []
    for row in ordered:
        assert row.sketch is not None
        digest, size = row.place.digest, row.place.raw_bytes
        raw, dtype = load(digest, size), BY_ID[row.sketch.dtype].name
        base = None
        if centre is not None and centre[1].size == size:
            base = centre if allowed_bases(catalogue, row.chunk_id, {centre[0]}) else None
        frame = encode_tensor(
            raw,
            dtype,
            digest=digest,
            base=None if base is None else base[1],
            base_digest=None if base is None else base[0],
            columns=columns or None,
        )
        frames.append((row.place, frame))
        if centre is None and digest in inputs:
            centre = digest, raw
    return frames


def _costs(deltas: Collection[FamilyRow]) -> dict[int, int]:
    """Returns what all of them would take against each, as far as sketches tell."""
    sketches = {row.chunk_id: row_sketch(row.sketch) for row in deltas if row.sketch is not None}
    centres = list(sketches.values())
    if len({sketch.dtype for sketch in centres}) > 1:
        return dict.fromkeys(sketches, 0)
    sizes = [predict_deltas(sketch, centres) for sketch in centres]
    return {chunk: int(sum(size)) for chunk, *size in zip(sketches, *sizes, strict=True)}
