"""Finds the tensors that a tensor may have been computed from, by content.

A quantised, cast or transposed copy keeps the order of most values, so the sketch that its source
has can be taken from it: of its values, at the places that the source's sketch looks at. The bands
of the catalogue then find the revision that the source is part of, and the sketches of that
revision's tensors tell which one it is. Names only break ties.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...codecs.dtypes import find_dtype
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.sketches.sketches import FamilyRow, find_near, read_centres
from ...store.catalogue.tables.rows import SketchRow
from ...store.catalogue.visibility import Scope
from ..derivations.operations.floats.formats import NAMES as FLOATS
from ..derivations.propose import (
    Guess,
    StoredTensor,
    arrangements,
    guess,
    is_computable,
    places_in_target,
)
from ..derivations.recipe import Arrangement, Piece
from ..model.files.manifest import Manifest
from ..model.files.segments import CHUNK_BYTES, Tensor, chunk_sizes
from ..model.sketch import (
    MAX_DIFFERENCE,
    MIN_BYTES,
    SKETCH_BITS,
    compare_values,
    count_differences,
    sketched_places,
)

ReadValues = Callable[[NDArray[np.intp]], NDArray[np.float32]]
"""Gives the values of a tensor's elements by their places, (n,) each."""

# Of a file's tensors so many are looked for by content; what they are found in has the others.
PROBED_TENSORS = 12
# Of those so many in all arrangements, dozens each, where none was found as it lies.
ARRANGED_TENSORS = 2
# Sources of one shape, among which a tensor is looked for in all arrangements.
MOST_ARRANGED = 1000
# Revisions that are looked through.
MOST_REVISIONS = 6
# Guesses about one tensor that are tried.
MOST_GUESSES = 4
# Rounding and ties change more of a sketch than training does: Q2_K some 15 % of its bits.
_MOST_DIFFERENT = 0.34


@dataclass(frozen=True, slots=True)
class Found:
    """A tensor that may be a source, with the sketch of its first chunk, where that tells
    anything."""

    tensor: StoredTensor
    bits: bytes | None


def list_tensors(manifest: Manifest) -> Iterator[StoredTensor]:
    """Yields the tensors of a revision that others may be computed from, or be what others are."""
    seen: set[bytes] = set()
    for entry in manifest.files:
        for segment in entry.segments:
            if not isinstance(segment, Tensor) or not is_computable(segment.dtype):
                continue
            if segment.size < MIN_BYTES or segment.parts or segment.chunks[0] in seen:
                continue
            seen.add(segment.chunks[0])
            sizes = chunk_sizes(segment, manifest.chunk_bytes)
            pieces = tuple(map(Piece, segment.chunks, sizes))
            yield StoredTensor(segment.name, segment.dtype, segment.shape, pieces)


def _sketched_elements(tensor: StoredTensor) -> tuple[int, int]:
    """Returns how many elements the first chunk of a float tensor has, and their exponent."""
    count = tensor.pieces[0].raw_bytes // find_dtype(tensor.dtype).item_bytes
    return count, count.bit_length() - 1


def find_revisions(
    catalogue: Catalogue,
    tensors: Sequence[StoredTensor],
    read_of: Callable[[StoredTensor], ReadValues],
    scopes: Sequence[Scope],
    own: tuple[str, str],
) -> list[tuple[str, str]]:
    """Returns the revisions but `own`, as repo and commit id, that most likely hold sources of
    `tensors`, the likeliest first; only those that a repo of each of `scopes` has."""
    for most, arranged in ((PROBED_TENSORS, False), (ARRANGED_TENSORS, True)):
        votes: Counter[tuple[str, str]] = Counter()
        step = max(1, len(tensors) // most)
        for tensor in tensors[::step][:most]:
            near = _near(catalogue, tensor, read_of(tensor), scopes, arranged)
            centres = read_centres(catalogue, near, scopes).values()
            votes.update({(centre.repo, centre.revision) for centre in centres})
        votes.pop(own, None)
        if votes:
            return [revision for revision, _ in votes.most_common(MOST_REVISIONS)]
    return []


def _near(
    catalogue: Catalogue,
    tensor: StoredTensor,
    read: ReadValues,
    scopes: Sequence[Scope],
    arranged: bool,
) -> list[int]:
    """Returns chunks that stand alone and look like the first one of a source of `tensor` that lies
    as it does; with `arranged`, in any other way."""
    found: list[int] = []
    groups: dict[tuple[int, int], set[int]] = defaultdict(set)
    for dtype in FLOATS:
        groups[_sketched_elements(_imagine(tensor, dtype))].add(find_dtype(dtype).id)
    for (count, exponent), dtypes in groups.items():
        places, kind = sketched_places(exponent, count), min(31, exponent)
        for way in _ways_of(tensor.shape) if arranged else (None,):
            bits = compare_values(read(places_in_target(way, places)))
            row = SketchRow(b"", kind, 0, 0, bits, b"")
            near = find_near(catalogue, row, scopes, dtypes)
            found += [chunk for chunk, theirs in near if _alike(bits, theirs)]
    return found


def _ways_of(shape: tuple[int, ...]) -> Iterator[Arrangement | None]:
    """Yields how a source of any shape may lie in a tensor of `shape`, but for as it is."""
    for source in dict.fromkeys((shape, shape[::-1])):
        yield from (way for way in arrangements(shape, source) if way is not None)


def _imagine(tensor: StoredTensor, dtype: str) -> StoredTensor:
    """Returns a tensor of the same shape and another dtype, as one of the default chunk size."""
    size = min(CHUNK_BYTES, tensor.elements * find_dtype(dtype).item_bytes)
    return StoredTensor(tensor.name, dtype, tensor.shape, (Piece(b"", size),))


def _alike(bits: bytes, others: bytes) -> bool:
    return int(count_differences(bits, [others])[0]) <= _MOST_DIFFERENT * SKETCH_BITS


class Sources:
    """Tensors that others may be computed from, by how many elements they have."""

    def __init__(self) -> None:
        self._found: dict[int, list[Found]] = defaultdict(list)
        self._seen: set[bytes] = set()

    def add(self, tensors: Collection[StoredTensor], rows: dict[bytes, FamilyRow]) -> None:
        """Adds tensors whose first chunks the catalogue describes in `rows`."""
        for tensor in tensors:
            row = rows.get(tensor.pieces[0].digest)
            if row is None or tensor.pieces[0].digest in self._seen:
                continue
            self._seen.add(tensor.pieces[0].digest)
            is_telling = row.sketch is not None and tensor.dtype in FLOATS
            bits = row.sketch.bits if row.sketch is not None and is_telling else None
            self._found[tensor.elements].append(Found(tensor, bits))

    def guesses(self, target: StoredTensor, read: ReadValues) -> list[Guess]:
        """Returns how `target` may have been computed from one of the sources, the likeliest
        first."""
        usable = [
            found
            for found in self._found.get(target.elements, ())
            if found.tensor.pieces[0].digest != target.pieces[0].digest
            and _is_better(found.tensor, target)
        ]
        ranked: list[tuple[tuple[float, float, bool], Guess]] = []
        for source, way, distance in _measure(usable, target, read):
            order = (distance, -source.bits, source.name != target.name)
            ranked += [(order, guessed) for guessed in guess(target, source, way)]
        ranked.sort(key=lambda pair: pair[0])
        return [guessed for _, guessed in ranked[:MOST_GUESSES]]


def _is_better(source: StoredTensor, target: StoredTensor) -> bool:
    """Tells whether one copy may be computed from the other: from what tells more, or among
    floats, as a wider copy holds no more than the narrow one it was made of."""
    return source.bits > target.bits or {source.dtype, target.dtype} <= set(FLOATS)


_Measured = tuple[StoredTensor, Arrangement | None, float]


def _measure(
    usable: Sequence[Found], target: StoredTensor, read: ReadValues
) -> Iterator[_Measured]:
    """Yields sources that `target` is like, in which arrangement, and what share of the sketch
    differs; MAX_DIFFERENCE for those that have no sketch of values."""
    groups: dict[tuple[tuple[int, ...], tuple[int, int]], list[Found]] = defaultdict(list)
    for found in usable:
        if found.bits is None:
            yield found.tensor, None, MAX_DIFFERENCE
        else:
            groups[found.tensor.shape, _sketched_elements(found.tensor)].append(found)
    for (shape, (count, exponent)), members in groups.items():
        known = [found.bits for found in members if found.bits is not None]
        places = sketched_places(exponent, count)
        for way in arrangements(target.shape, shape):
            bits = compare_values(read(places_in_target(way, places)))
            shares = count_differences(bits, known) / SKETCH_BITS
            yield from (
                (found.tensor, way, float(share))
                for found, share in zip(members, shares, strict=True)
                if share <= _MOST_DIFFERENT
            )
            if way is None and (shares.min() <= _MOST_DIFFERENT or len(members) > MOST_ARRANGED):
                # Nothing lies in two ways, and there are dozens.
                break
