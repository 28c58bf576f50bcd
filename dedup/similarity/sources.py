"""Finds the tensors that a tensor may have been computed from, by content.

A quantised, cast or transposed copy keeps the order of most values, so the sketch that its source
has can be taken from it: of its values, at the places that the source's sketch looks at. The bands
of the catalogue then find the revision that the source is part of, and the sketches of that
revision's tensors tell which one it is. Names only break ties.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ...codecs.dtypes import find_dtype
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.sketches.near import find_deltas, find_near_each
from ...store.catalogue.sketches.sketches import FamilyRow, read_centres
from ...store.catalogue.visibility import Scope
from ..derivations.guesses import pruned, registry
from ..derivations.guesses.kinds import Guess, Match, Ranked, View
from ..derivations.guesses.layouts import arrangements, places_in_target
from ..derivations.guesses.tensors import StoredTensor, Target
from ..derivations.operations.floats.formats import NAMES as FLOATS
from ..derivations.operations.gguf.layout import KINDS as QUANTS
from ..derivations.recipe import Arrangement, Piece
from ..errors import Corrupt, Missing
from ..model.files.manifest import Manifest
from ..model.files.segments import CHUNK_BYTES, Bundle, Tensor, chunk_sizes
from ..model.sketch import (
    MAX_DIFFERENCE,
    MIN_BYTES,
    SKETCH_BITS,
    SKETCH_BYTES,
    compare_values,
    count_differences,
    sketched_places,
)

# Of a file's tensors so many are looked for by content; what they are found in has the others.
PROBED_TENSORS = 12
# Of those so many in all arrangements, dozens each, where none was found as it lies.
ARRANGED_TENSORS = 2
# Sources of one shape, among which a tensor is looked for in all arrangements.
MOST_ARRANGED = 1000
# Revisions that are looked through.
MOST_REVISIONS = 6
# Chunks like one tensor whose revisions are asked for: members of a family are all alike.
_NEAREST = 32
# Of a quantised tensor's sketch, the share of bits that tell least, and how often others are tried.
_UNSURE, _CHANGES = 0.2, 16
# Sketches of a tensor that are looked for at once: of guesses, the first of which often do, fewer.
_ASKED_AT_ONCE, _GUESSED_AT_ONCE = 16, 4
# Guesses about one tensor that are tried.
MOST_GUESSES = 32
# Rounding and ties change more of a sketch than training does: Q2_K some 15 % of its bits.
_MOST_DIFFERENT = 0.34
# Fewer bits tell nothing.
_LEAST_DECIDED = 48


def list_tensors(manifest: Manifest) -> Iterator[StoredTensor]:
    """Yields the tensors of a revision that others may be computed from, or be what others are."""
    seen: set[bytes] = set()
    for entry in manifest.files:
        for segment in entry.segments:
            if not isinstance(segment, Tensor) or not _is_known(segment.dtype):
                continue
            if segment.size < MIN_BYTES or segment.chunks[0] in seen:
                continue
            seen.add(segment.chunks[0])
            sizes = chunk_sizes(segment, manifest.chunk_bytes)
            pieces = tuple(map(Piece, segment.chunks, sizes))
            yield StoredTensor(segment.name, segment.dtype, segment.shape, pieces)


def _is_known(dtype: str) -> bool:
    return registry.is_source(dtype) or registry.is_computable(dtype)


def list_companions(manifest: Manifest) -> Iterator[StoredTensor]:
    """Yields all tensors of a revision, small ones too, but those of dtypes that nobody knows."""
    for entry in manifest.files:
        for segment in entry.segments:
            if isinstance(segment, Bundle):
                piece = Piece(segment.chunks[0], segment.size)
                for part, at in segment.places():
                    place, off = divmod(at, find_dtype(part.dtype).item_bytes)
                    if not off:
                        yield StoredTensor(part.name, part.dtype, part.shape, (piece,), place)
            elif isinstance(segment, Tensor) and segment.dtype == segment.coding_dtype:
                sizes = chunk_sizes(segment, manifest.chunk_bytes)
                pieces = tuple(map(Piece, segment.chunks, sizes))
                yield StoredTensor(segment.name, segment.dtype, segment.shape, pieces)


def _sketched_elements(
    elements: int, dtype: str, first_bytes: int = CHUNK_BYTES
) -> tuple[int, int]:
    """Returns how many elements the first chunk of a float tensor has, and their exponent."""
    count = min(elements, first_bytes // find_dtype(dtype).item_bytes)
    return count, count.bit_length() - 1


def find_revisions(
    catalogue: Catalogue, targets: Sequence[Target], scopes: Sequence[Scope], own: tuple[str, str]
) -> list[tuple[str, str]]:
    """Returns the revisions but `own`, as repo and commit id, that most likely hold sources of
    `targets`, the likeliest first; only those that a repo of each of `scopes` has."""
    step = max(1, len(targets) // PROBED_TENSORS)
    probed = targets[::step][:PROBED_TENSORS]
    found = _find_near(catalogue, probed, scopes, own, arranged=False)
    lost = [target for target, each in zip(probed, found, strict=True) if not each]
    lost.sort(key=lambda target: -target.tensor.elements)
    found += _find_near(catalogue, lost[:ARRANGED_TENSORS], scopes, own, arranged=True)
    # How many targets are like a tensor of a revision, negative, and how much they differ.
    votes: dict[tuple[str, str], tuple[int, int]] = {}
    for each in found:
        for revision, apart in each.items():
            alike, total = votes.get(revision, (0, 0))
            votes[revision] = alike - 1, total + apart
    return sorted(votes, key=lambda revision: votes[revision])[:MOST_REVISIONS]


def _find_near(
    catalogue: Catalogue,
    targets: Sequence[Target],
    scopes: Sequence[Scope],
    own: tuple[str, str],
    *,
    arranged: bool,
) -> list[dict[tuple[str, str], int]]:
    """Returns for each target the revisions but `own` that have something like a source of it, with
    how many bits of sketches the nearest differs in."""
    near = [_nearest(catalogue, target, scopes, arranged) for target in targets]
    chunks = {chunk for each in near for chunk in each}
    centres = read_centres(catalogue, chunks, scopes, deltas=True) if chunks else {}
    found: list[dict[tuple[str, str], int]] = []
    for each in near:
        revisions: dict[tuple[str, str], int] = {}
        for chunk in each.keys() & centres.keys():
            revision = centres[chunk].repo, centres[chunk].revision
            if revision != own:
                revisions[revision] = min(each[chunk], revisions.get(revision, SKETCH_BITS))
        found.append(revisions)
    return found


def _nearest(
    catalogue: Catalogue, target: Target, scopes: Sequence[Scope], arranged: bool
) -> dict[int, int]:
    """Returns the chunks that are most like a source of the target, with how many bits of sketches
    differ."""
    near: dict[int, int] = {}
    for view in registry.views(target):
        for unsure in (None, *_unsure(target, arranged)):
            known = set(near)
            for chunk, apart in _near(catalogue, view, scopes, arranged, unsure, known):
                near[chunk] = min(apart, near.get(chunk, SKETCH_BITS))
            # A float finds itself, and other copies that are like it.
            if near and target.tensor.dtype in QUANTS:
                break
    return {chunk: near[chunk] for chunk in sorted(near, key=lambda c: near[c])[:_NEAREST]}


def _unsure(target: Target, arranged: bool) -> Iterator[float]:
    """Yields what share of its sketch a target may tell nothing of, where that is much: 0 where
    equal values are all that tells nothing."""
    if not arranged and target.tensor.dtype in QUANTS:
        yield _UNSURE
    elif not arranged and target.tensor.dtype in FLOATS and pruned.has_zeros(target):
        yield 0.0


def _near(
    catalogue: Catalogue,
    view: View,
    scopes: Sequence[Scope],
    arranged: bool,
    unsure: float | None,
    known: Collection[int],
) -> Iterator[tuple[int, int]]:
    """Yields chunks that look like the first one of a source that lies as the view does, and in how
    many bits their sketches differ; with `arranged`, in any other way; with `unsure`, whatever a
    coarse copy does not tell of its sketch, until one is found that is not `known`. By bands those
    that are standalone are found, and through them deltas on them."""
    groups: dict[tuple[int, int], set[int]] = defaultdict(set)
    for dtype in FLOATS:
        groups[_sketched_elements(view.elements, dtype)].add(find_dtype(dtype).id)
    for sketched, dtypes in groups.items():
        ways = _ways_of(view.shape) if arranged else (None,)
        sketches = (bits for way in ways for bits in _bits_of(view, way, sketched, unsure))
        kind, most = min(31, sketched[1]), _ASKED_AT_ONCE if unsure is None else _GUESSED_AT_ONCE
        while asked := list(islice(sketches, most)):
            near = find_near_each(catalogue, kind, asked, scopes, dtypes)
            alike = [list(_alike(*pair)) for pair in zip(asked, near, strict=True)]
            centres = {chunk for each in alike for chunk, _ in each}
            deltas = find_deltas(catalogue, centres, scopes, dtypes) if centres else []
            for bits, alone in zip(asked, alike, strict=True):
                yield from alone
                if alone:
                    yield from _alike(bits, deltas)
            if unsure is not None and centres - set(known):
                break


def _bits_of(
    view: View, way: Arrangement | None, sketched: tuple[int, int], unsure: float | None
) -> Iterable[bytes]:
    """Returns the sketches that a source may have of which `view` shows a copy."""
    count, exponent = sketched
    known = view.sketch
    is_plain = way is None and unsure is None
    if is_plain and known is not None and known.exponent == exponent:
        return (known.bits,)
    values = view.read(places_in_target(way, sketched_places(exponent, count)))
    return (compare_values(values),) if unsure is None else _change(values, unsure)


def _change(values: NDArray[np.float32], share: float) -> Iterator[bytes]:
    """Yields sketches in which what compares values that are nearly equal in a copy of few bits is
    left to chance."""
    apart = abs(values[0::2] - values[1::2])
    count = max(round(share * apart.size), np.count_nonzero(apart == 0))
    unsure = np.argsort(apart, kind="stable")[:count]
    known = values[0::2] > values[1::2]
    for seed in range(_CHANGES):
        known[unsure] = np.random.default_rng(seed).integers(0, 2, unsure.size)
        yield np.packbits(known, bitorder="little").tobytes()


def _ways_of(shape: tuple[int, ...]) -> Iterator[Arrangement | None]:
    """Yields how a source of any shape may lie in a tensor of `shape`, but for as it is."""
    for source in dict.fromkeys((shape, shape[::-1])):
        yield from (way for way in arrangements(shape, source) if way is not None)


def _alike(bits: bytes, others: Sequence[tuple[int, bytes]]) -> Iterator[tuple[int, int]]:
    """Yields of chunks with their bits those that are near, and in how many bits they differ."""
    counts = count_differences(bits, [theirs for _, theirs in others]) if others else ()
    for (chunk, _), count in zip(others, counts, strict=True):
        if count <= _MOST_DIFFERENT * SKETCH_BITS:
            yield chunk, int(count)


class _Group:
    """Tensors of one dtype and shape, whose sketches compare as many elements: (elements of the
    first chunk, their exponent)."""

    def __init__(self, shape: tuple[int, ...], sketched: tuple[int, int]) -> None:
        self.shape, self.sketched = shape, sketched
        self.tensors: list[StoredTensor] = []
        self._bits: list[bytes] = []
        self._stacked = np.empty((0, SKETCH_BYTES), np.uint8)

    def add(self, tensor: StoredTensor, bits: bytes) -> None:
        """Adds a tensor, and what is known of its first chunk."""
        self.tensors.append(tensor)
        self._bits.append(bits)

    def compare(self, view: View) -> Iterator[Match]:
        """Yields those tensors that a view is like as it is."""
        count, exponent = self.sketched
        if view.sketch is not None and view.sketch.exponent == exponent:
            differing = self._known() ^ np.frombuffer(view.sketch.bits, np.uint8)
            shares = np.bitwise_count(differing).sum(1, dtype=np.int64) / SKETCH_BITS
        else:
            values = view.read(sketched_places(exponent, count))
            (shares,) = _shares_different(values.reshape(1, -1), self._known())
        for i in np.flatnonzero(shares <= _MOST_DIFFERENT):
            yield Match(self.tensors[i], None, float(shares[i]))

    def compare_arranged(self, view: View) -> Iterator[Match]:
        """Yields those tensors that a view is like if they lie in another way."""
        ways, places = _places_of_ways(view.shape, self.shape, self.sketched)
        if ways and len(self.tensors) <= MOST_ARRANGED:
            values = view.read(places.reshape(-1)).reshape(places.shape)
            shares = _shares_different(values, self._known())
            for way, i in np.argwhere(shares <= _MOST_DIFFERENT):
                yield Match(self.tensors[i], ways[way], float(shares[way, i]))

    def _known(self) -> NDArray[np.uint8]:
        """Returns the sketches, (n, SKETCH_BYTES)."""
        if len(self._stacked) < len(self._bits):
            flat = np.frombuffer(b"".join(self._bits), np.uint8)
            self._stacked = flat.reshape(-1, SKETCH_BYTES)
        return self._stacked


class Sources:
    """Tensors that others may be computed from, by how many elements they have (kinds.Pool)."""

    def __init__(self) -> None:
        self.kept: dict[object, object] = {}
        self._groups: dict[int, dict[object, _Group]] = defaultdict(dict)
        self._without_sketch: dict[int, list[StoredTensor]] = defaultdict(list)
        self._seen: set[bytes] = set()

    def add(self, tensors: Collection[StoredTensor], rows: dict[bytes, FamilyRow]) -> None:
        """Adds tensors whose first chunks the catalogue describes in `rows`."""
        for tensor in tensors:
            row = rows.get(tensor.pieces[0].digest)
            if row is None or not registry.is_source(tensor.dtype):
                continue
            if tensor.pieces[0].digest in self._seen:
                continue
            self._seen.add(tensor.pieces[0].digest)
            if row.sketch is None or tensor.dtype not in FLOATS:
                self._without_sketch[tensor.elements].append(tensor)
                continue
            first = tensor.pieces[0].raw_bytes
            sketched = _sketched_elements(tensor.elements, tensor.dtype, first)
            key = tensor.dtype, tensor.shape, sketched
            group = self._groups[tensor.elements].setdefault(key, _Group(tensor.shape, sketched))
            group.add(tensor, row.sketch.bits)

    def guesses(self, target: Target) -> list[Guess]:
        """Returns how `target` may have been computed from the sources, the likeliest first."""
        ranked: list[Ranked] = []
        # A source that is collected or damaged by now is none.
        with suppress(Missing, Corrupt):
            for pair in registry.guesses(target, self):
                ranked.append(pair)
        ranked.sort(key=lambda pair: pair[0])
        return [guessed for _, guessed in ranked[:MOST_GUESSES]]

    def all_tensors(self) -> Iterator[StoredTensor]:
        """See Pool.all_tensors."""
        for tensors in self._without_sketch.values():
            yield from tensors
        for groups in self._groups.values():
            for group in groups.values():
                yield from group.tensors

    def matches(self, target: Target, view: View) -> Iterator[Match]:
        """See Pool.matches. Of those that have no sketch of values MAX_DIFFERENCE is the
        distance."""

        def may_be(tensor: StoredTensor) -> bool:
            same = tensor.pieces[0].digest == target.tensor.pieces[0].digest
            return not same and view.admits(tensor)

        plain = self._without_sketch.get(view.elements, ())
        yield from (Match(each, None, MAX_DIFFERENCE) for each in plain if may_be(each))
        groups = list(self._groups.get(view.elements, {}).values())
        is_found = False
        for group in groups:
            for match in group.compare(view):
                if may_be(match.source):
                    is_found = True
                    yield match
        # Nothing lies in two ways, and there are dozens.
        for group in groups if view.arranged and not is_found else ():
            yield from (match for match in group.compare_arranged(view) if may_be(match.source))


@lru_cache(256)
def _places_of_ways(
    shape: tuple[int, ...], source: tuple[int, ...], sketched: tuple[int, int]
) -> tuple[list[Arrangement], NDArray[np.intp]]:
    """Returns how a source may lie in a tensor of `shape`, but for as it is, and where in that the
    elements lie that its sketch compares, (ways, 512)."""
    count, exponent = sketched
    ways = [way for way in arrangements(shape, source) if way is not None]
    places = sketched_places(exponent, count)
    return ways, np.array([places_in_target(way, places) for way in ways], np.intp)


def _shares_different(values: NDArray[np.float32], known: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Returns the share of the bits of each of some sketches, (n, SKETCH_BYTES), that differ from
    what k views say, whose `values` are (k, 512): (k, n) float64. Equal values say nothing: coarse
    codes of a few large values are mostly so."""
    decided = values[:, 0::2] != values[:, 1::2]
    counts = np.count_nonzero(decided, axis=1)[:, None]
    bits = np.packbits(values[:, 0::2] > values[:, 1::2], axis=1, bitorder="little")
    mask = np.packbits(decided, axis=1, bitorder="little")
    differing = (known ^ bits[:, None]) & mask[:, None]
    shares = np.bitwise_count(differing).sum(2, dtype=np.int64) / np.maximum(counts, 1)
    # What chance makes of so few bits: four standard deviations from a half.
    is_telling = (counts >= _LEAST_DECIDED) & (shares <= 0.5 - 2 / np.maximum(counts, 1) ** 0.5)
    return np.where(is_telling, shares, 1)
