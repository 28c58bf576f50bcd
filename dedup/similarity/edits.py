"""Finds what the opaque chunks of an edited file were before the edit.

Cards, configurations, logs and tokenizers change a little from commit to commit, and from a model
to its tune. Content-defined chunks leave what an edit did not touch as it was (content_chunks.py);
a chunk that it did touch is nearly the one that stood in its place, which a codec turns into a
patch.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..model.files.entries import ChunkUse, FileEntry
from ..model.files.manifest import Manifest
from ..model.files.segments import Literal, Opaque, Share


def match_edits(manifest: Manifest, earlier: Manifest) -> dict[bytes, ChunkUse]:
    """Returns, for opaque chunks of files that `earlier` has by the same paths with other bytes,
    the chunk there that each stands in place of; nothing for chunks that both have."""
    before = {entry.path: entry for entry in earlier.files}
    matches: dict[bytes, ChunkUse] = {}
    for entry in manifest.files:
        old = before.get(entry.path)
        # A file that did not change may share its chunk with one that did.
        if old is not None and old.segments != entry.segments:
            chunks = [*_opaque_chunks(entry, manifest.chunk_bytes)]
            matches.update(_align(chunks, [*_opaque_chunks(old, earlier.chunk_bytes)]))
    return matches


def _align(chunks: list[ChunkUse], old: list[ChunkUse]) -> Iterator[tuple[bytes, ChunkUse]]:
    """Pairs chunks that only the new file has with those that only the old one had, both in the
    order of their files and between the same neighbours."""
    kept = {use.digest for use in chunks}
    place = {use.digest: index for index, use in enumerate(old)}
    replaced = [index for index, use in enumerate(old) if use.digest not in kept]
    at = 0
    for use in chunks:
        if use.digest in place:
            while at < len(replaced) and replaced[at] < place[use.digest]:
                at += 1
        elif replaced:
            yield use.digest, old[replaced[min(at, len(replaced) - 1)]]
            at += 1


def _opaque_chunks(entry: FileEntry, chunk_bytes: int) -> Iterator[ChunkUse]:
    uses = entry.chunks(chunk_bytes)
    for segment in entry.segments:
        if not isinstance(segment, Literal):
            for _ in segment.chunks:
                use = next(uses)
                if isinstance(segment, Opaque | Share) and use.size:
                    yield use
