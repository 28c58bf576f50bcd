"""Frames as they are sent to clients that tell what they have: each standalone, or made from chunks
that the client offers for it.

What a client is sent must not depend on what others keep. So for whoever may not read all repos
every frame is made on the way: it goes by the bytes of the chunk and of what is offered for it
alone, of which those count that the client may read here. For all others what is stored is sent
where it fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ....store.catalogue.access.received import readable_through
from ....store.catalogue.tables.rows import Location
from ....store.catalogue.visibility import Scope
from ....store.packs import STANDALONE
from ...errors import ChunksMissing
from ...model.files.entries import ChunkUse
from ...model.sketch import make_sketch
from ...reading.base_cache import BaseCache
from ...reading.chunk_reader import Buffer, ChunkReader
from ...reading.timed_codecs import encode_tensor
from ...repository.repository import Repository
from ...similarity.size_prediction import predict_alone, predict_deltas
from ...vault import Offers

# What is encoded for one request, and decoded to be compared with: a processor second, at 250 MB/s.
# What goes beyond is sent raw, and no client of ours asks for so much at once.
ENCODED_BYTES = 192 << 20
# Chunks that are offered are decoded and sketched alone.
_BASE_SHARE = 4
# Opaque bytes take so many times as long; short ones are worth it to be encoded well.
_OPAQUE_COST, _TEXT_COST = 4, 16
_TEXT_BYTES = 1 << 20

# A base is chosen among so many offered chunks, of long ones the first alone: two chunks and a
# frame are in memory.
_COMPARED, _LONG_BYTES = 3, 8 << 20
# Read ahead, for each of the two streams of chunks.
_BATCH_BYTES = 4 << 20
# Of what these are deltas on themselves.
_BASES_BYTES = 16 << 20


@dataclass(slots=True)
class _Allowance:
    left: int

    def take(self, use: ChunkUse, bases: Sequence[ChunkUse]) -> bool:
        """Counts the encoding of a chunk on one of `bases`; says whether there is room for it."""
        cost = use.size + sum(base.size for base in bases) // _BASE_SHARE
        if use.dtype == "U8":
            cost *= _TEXT_COST if use.size <= _TEXT_BYTES else _OPAQUE_COST
        self.left -= cost
        return self.left >= 0


class OfferedFrames:
    """Frames of chunks of a revision for whoever may read the repos of `scope`.

    `fetch` gives those asked for as RevisionReader.read_frames does, and may be called again for
    the last of them. Raises ChunksMissing for chunks that the revision does not have.
    """

    def __init__(
        self, vault: Repository, repo: str, revision: str, offers: Offers, scope: Scope
    ) -> None:
        self._vault = vault
        self._repo, self._revision = repo, revision
        self._offers = offers
        self._scope = scope

    def fetch(self, digests: Sequence[bytes]) -> Iterator[bytes]:
        """Yields the frames of `digests`, in that order."""
        uses = self._find_uses(digests)
        told = {each for d in digests for each in self._offers.get(d, ())}
        catalogue = self._vault.catalogue
        offered = catalogue.locate(readable_through(catalogue, told, self._scope).keys())
        stored = catalogue.locate(digests) if self._scope.everything else {}
        near = {
            digest: {d: offered[d] for d in self._offers.get(digest, ()) if d in offered}
            for digest in digests
        }
        as_stored = [d for d in digests if d in stored and _fits(stored[d], near[d])]
        frames = self._vault.fetch_frames(as_stored)
        kept = set(as_stored)
        made = _Maker(self._vault, [(uses[d], near[d]) for d in digests if d not in kept]).frames()
        return (next(frames if digest in kept else made) for digest in digests)

    def _find_uses(self, digests: Sequence[bytes]) -> dict[bytes, ChunkUse]:
        manifest = self._vault.resolve(self._repo, self._revision).manifest
        wanted = set(digests)
        uses = {
            use.digest: use
            for entry in manifest.files
            for use in entry.chunks(manifest.chunk_bytes)
            if use.digest in wanted
        }
        absent = wanted - uses.keys()
        if absent:
            name = min(absent).hex()
            raise ChunksMissing(f"{self._repo} at {self._revision} has no chunk {name}")
        return uses


class _Maker:
    """Encodes chunks on the way, each beside the places of chunks that it may be a delta on."""

    def __init__(
        self, vault: Repository, wanted: Sequence[tuple[ChunkUse, Mapping[bytes, Location]]]
    ) -> None:
        allowance = _Allowance(ENCODED_BYTES)
        chosen = [(use, _choose(use, near)) for use, near in wanted]
        # What is sent raw has no bases, which would be read for nothing.
        fitting = [allowance.take(use, bases) for use, bases in chosen]
        self._wanted = [
            (use, bases if fits else None)
            for (use, bases), fits in zip(chosen, fitting, strict=True)
        ]
        self._kept = BaseCache(_BASES_BYTES)
        self._chunks = self._read(vault, [use for use, _ in self._wanted])
        self._bases = self._read(vault, [base for _, bases in self._wanted for base in bases or ()])

    def _read(self, vault: Repository, uses: list[ChunkUse]) -> Iterator[Buffer]:
        return ChunkReader(vault.fetch_frames, self._kept, batch_bytes=_BATCH_BYTES).read(uses)

    def frames(self) -> Iterator[bytes]:
        """Yields a frame of each chunk."""
        for use, bases in self._wanted:
            raw = next(self._chunks)
            if bases is None:
                yield encode_tensor(raw, "U8", codec="raw", digest=use.digest)
                continue
            found = self._nearest(use, raw, bases)
            level = "fast" if use.dtype == "U8" and use.size > _TEXT_BYTES else "default"
            facts: dict[str, Any] = {"columns": use.columns, "level": level}
            if found is not None:
                base, other = found
                # Of other lengths are only texts, which are matched by their content.
                rows = None if base.size == use.size else ()
                facts |= {"base": other, "base_digest": base.digest, "rows": rows}
            yield encode_tensor(raw, use.dtype, digest=use.digest, **facts)

    def _nearest(
        self, use: ChunkUse, raw: Buffer, bases: Sequence[ChunkUse]
    ) -> tuple[ChunkUse, Buffer] | None:
        """Returns the base that a delta is predicted to be smallest on, with its bytes; None where
        the chunk is predicted to take less by itself."""
        if use.dtype == "U8":
            return next(((base, next(self._bases)) for base in bases), None)
        sketch = make_sketch(memoryview(raw), use.dtype) if bases else None
        best: tuple[ChunkUse, Buffer] | None = None
        least = predict_alone(sketch) if sketch is not None else 0
        for base in bases:
            other = next(self._bases)
            assert sketch is not None
            (size,) = predict_deltas(sketch, [make_sketch(memoryview(other), use.dtype)])
            if size < least:
                best, least = (base, other), size
        return best


def _choose(use: ChunkUse, near: Mapping[bytes, Location]) -> list[ChunkUse]:
    """Returns the offered chunks that a delta may be tried on."""
    same = [ChunkUse(d, 0, place.raw_bytes, use.dtype) for d, place in near.items()]
    if use.dtype == "U8":
        texts = [each for each in same if max(each.size, use.size) <= _TEXT_BYTES]
        return (texts or [each for each in same if each.size == use.size])[:1]
    fitting = [each for each in same if each.size == use.size]
    return fitting[: _COMPARED if use.size <= _LONG_BYTES else 1]


def _fits(place: Location, near: Mapping[bytes, Location]) -> bool:
    """Says whether a frame is sent as it is stored."""
    if place.level == STANDALONE:
        return not near
    return set(place.inputs) <= near.keys()
