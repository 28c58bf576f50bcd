"""Puts the small files of a push, or of a commit of changes, together, to be stored as few chunks.

As `formats/cutting/bundles.py` does with small tensors, and for the same reason: a chunk costs some
140 bytes besides its content, whatever its size, and alone nobody sees how much it is like the
next. Where a bundle begins and ends is told by paths: when files are edited, added or removed, only
the bundles that they are in are others, and those are patches of what they were.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from posixpath import splitext

from ...errors import InvalidFile
from ...formats.cutting.bundles import begins_bundle
from ...formats.cutting.held import File, HeldFile
from ...formats.scan import hash_chunk
from ...model.files.entries import FileEntry
from ...model.files.segments import Opaque, Share, share_of
from ...model.sketch import make_query
from ...model.sketch_file import Sketches

# As for tensors.
SMALL_BYTES = 16 << 10

# Below that, what chunks of their own cost is nothing, and each is found in other repos and
# uploads: repos of models have some twenty small files.
LEAST_FILES = 64

# Whoever reads one file decodes its bundle: half a millisecond.
_AIM_BYTES = 256 << 10
_MOST_BYTES = 512 << 10


@dataclass(frozen=True, slots=True)
class _Bundle:
    """Files that are stored as one chunk, of which each is another, in that order."""

    files: tuple[FileEntry, ...]

    def shares(self, digest: bytes) -> Iterator[tuple[bytes, Share]]:
        """Yields the digest of each file with its share of the chunk of that digest."""
        whole = sum(entry.size for entry in self.files)
        start = 0
        for entry in self.files:
            yield entry.digest, Share(entry.size, start, whole, (digest,))
            start += entry.size


def bundle_files(
    entries: Iterable[FileEntry],
    files: Mapping[str, File],
    chunk_bytes: int,
    sketches: Sketches | None,
    unread: Collection[bytes] = (),
    *,
    least: int = LEAST_FILES,
) -> Iterator[FileEntry]:
    """Yields `entries`, those of small files as shares of bundles of at most `chunk_bytes`, if
    there are at least that many; fills `sketches`, if given, with those of the bundles whose files
    were read.

    Files that are shares of the right bundle already are not read, unless its chunk is one of
    `unread`. Raises InvalidFile.
    """
    listed = list(entries)
    recalled = {e.digest: s for e in listed if (s := share_of(e.segments)) is not None}
    apart = [_take_apart(entry) for entry in listed]
    shares: dict[bytes, Share] = {}
    for bundle in _plan_bundles(apart, min(_MOST_BYTES, chunk_bytes), least):
        digest = _recall(bundle, recalled)
        if digest is None or digest in unread:
            data = b"".join(_read(files[entry.path], entry) for entry in bundle.files)
            digest = hash_chunk(memoryview(data))
            if sketches is not None:
                sketches[digest] = make_query(data, "U8")
        shares.update(bundle.shares(digest))
    for entry in apart:
        share = shares.get(entry.digest)
        yield entry if share is None else replace(entry, segments=(share,))


def _recall(bundle: _Bundle, recalled: Mapping[bytes, Share]) -> bytes | None:
    """Returns the digest of a bundle of which all files are shares as it has them."""
    first = recalled.get(bundle.files[0].digest)
    if first is None:
        return None
    (digest,) = first.chunks
    return digest if all(recalled.get(d) == s for d, s in bundle.shares(digest)) else None


def _take_apart(entry: FileEntry) -> FileEntry:
    """Returns a file as it would be alone: a chunk, whose digest is that of the file."""
    if share_of(entry.segments) is None:
        return entry
    return replace(entry, segments=(Opaque(entry.size, (entry.digest,)),))


def _plan_bundles(entries: Sequence[FileEntry], most: int, least: int) -> Iterator[_Bundle]:
    # Files of a kind are like each other. Each content is stored once.
    small = sorted(filter(_is_small, entries), key=lambda e: (splitext(e.path)[1], e.path))
    distinct = {entry.digest: entry for entry in reversed(small)}
    if len(distinct) < least:
        return
    part: list[FileEntry] = []
    size = 0
    for entry in reversed(distinct.values()):
        starts = begins_bundle(entry.path.encode(), entry.size, _AIM_BYTES)
        if part and (size + entry.size > most or starts):
            yield _Bundle(tuple(part))
            part, size = [], 0
        part.append(entry)
        size += entry.size
    yield _Bundle(tuple(part))


def _is_small(entry: FileEntry) -> bool:
    # One that a format explains is not opaque, and found elsewhere tensor by tensor.
    only = entry.segments[0] if len(entry.segments) == 1 else None
    return isinstance(only, Opaque) and 0 < only.size < SMALL_BYTES


def _read(path: File, entry: FileEntry) -> bytes:
    if isinstance(path, HeldFile):
        return path.data
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidFile(f"cannot read {path}: {error.strerror}") from error
    if hash_chunk(memoryview(data)) != entry.digest:
        raise InvalidFile(f"{path} changed while it was pushed", "push it again")
    return data
