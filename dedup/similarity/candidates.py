"""Finds what a new chunk may be coded against, by its sketch alone: what a server tells clients."""

from __future__ import annotations

from collections.abc import Sequence

from ...codecs.dtypes import BY_ID, find_dtype
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.sketches.sharing import find_near_all
from ...store.catalogue.sketches.sketches import Centre, read_centres
from ...store.catalogue.tables.rows import SketchRow
from ...store.catalogue.visibility import Scope
from ..model.sketch import Sketch, count_words, find_related, word_bytes
from ..vault import Candidate
from .size_prediction import predict_alone, predict_deltas

# Candidates named for a chunk: the client encodes against one or two of them.
MOST_CANDIDATES = 3

# What a delta must promise to save. It is read with its base, which an index names in 32 bytes, and
# predictions for small chunks are off by as much as this. Without it norms of neighbouring layers,
# whose values are correlated by 0.9, became deltas that saved 1 %. Of what small tensors of the
# corpus save it forgoes 0.9 %.
_LEAST_BYTES_SAVED = 128
_LEAST_SHARE_SAVED = 0.03

# Sketches that are asked about together; what their related chunks are like takes a few MiB.
_ASKED_AT_ONCE = 256

# Related chunks that are ranked by their words; the nearest by sketch come first.
_MOST_RANKED = 16


def find_candidates(
    catalogue: Catalogue, sketches: Sequence[Sketch], scopes: Sequence[Scope] = ()
) -> list[tuple[Candidate, ...]]:
    """Returns for each sketch the chunks that a delta may be made against, best first; only those
    that a repo of each of `scopes` has, and as if there were no others.

    Only chunks that are standalone, are related by their sketches, and promise a delta that is
    clearly smaller than a frame without a base. Reads no weights.
    """
    found: list[tuple[Candidate, ...]] = []
    for start in range(0, len(sketches), _ASKED_AT_ONCE):
        found += _find_some(catalogue, sketches[start : start + _ASKED_AT_ONCE], scopes)
    return found


def sketch_row(digest: bytes, sketch: Sketch) -> SketchRow:
    """Returns the catalogue's row of a chunk's sketch."""
    dtype = find_dtype(sketch.dtype).id
    return SketchRow(digest, sketch.kind, dtype, sketch.size, sketch.bits, sketch.words)


def row_sketch(row: SketchRow) -> Sketch:
    """Returns the sketch of a catalogue's row."""
    dtype = BY_ID[row.dtype]
    # Catalogues keep what older versions wrote: more words, and sketches of smaller chunks.
    kept = count_words(dtype.name, row.raw_bytes) * word_bytes(dtype.name)
    return Sketch(dtype.name, row.raw_bytes, row.bits, row.words[:kept])


def _find_some(
    catalogue: Catalogue, sketches: Sequence[Sketch], scopes: Sequence[Scope]
) -> list[tuple[Candidate, ...]]:
    near = find_near_all(catalogue, [sketch_row(b"", sketch) for sketch in sketches], scopes)
    related: list[list[int]] = []
    for sketch, each in zip(sketches, near, strict=True):
        order = find_related(sketch.bits, [bits for _, bits in each]) if each else []
        related.append([each[i][0] for i in order[:_MOST_RANKED]])
    wanted = sorted({chunk for each in related for chunk in each})
    centres = read_centres(catalogue, wanted, scopes)
    return [
        _rank(sketch, [centres[chunk] for chunk in each if chunk in centres])
        for sketch, each in zip(sketches, related, strict=True)
    ]


def _rank(sketch: Sketch, centres: Sequence[Centre]) -> tuple[Candidate, ...]:
    if not centres:
        return ()
    predicted = predict_deltas(sketch, [row_sketch(c.sketch) for c in centres])
    alone = predict_alone(sketch)
    limit = alone - _LEAST_BYTES_SAVED - _LEAST_SHARE_SAVED * alone
    ranked = sorted(
        (size, centre.sketch.digest, centre)
        for size, centre in zip(predicted, centres, strict=True)
        if size < limit
    )
    return tuple(_candidate(size, centre) for size, _, centre in ranked[:MOST_CANDIDATES])


def _candidate(predicted: int, centre: Centre) -> Candidate:
    row = centre.sketch
    return Candidate(row.digest, row.raw_bytes, predicted, centre.repo, centre.revision)
