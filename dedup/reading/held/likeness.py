"""By which names chunks of other revisions are looked for that resemble one: those that stand at
the same place of a tensor, or a file, of the same name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from blake3 import blake3

from ...model.files.entries import ChunkUse, FileEntry
from ...model.files.segments import Bundle, Literal, Segment, Share, Tensor, count_chunks

_KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class Likeness:
    """Keys of a chunk: `same` names its place, dtype and size, `near` its place alone."""

    same: bytes
    near: bytes


def find_likenesses(
    entries: Iterable[FileEntry], chunk_bytes: int
) -> dict[bytes, tuple[ChunkUse, Likeness]]:
    """Returns the chunks of files by digest, with what relatives are found by."""
    return {
        use.digest: (use, like) for entry in entries for use, like in _of_entry(entry, chunk_bytes)
    }


def _of_entry(entry: FileEntry, chunk_bytes: int) -> Iterator[tuple[ChunkUse, Likeness]]:
    uses = entry.chunks(chunk_bytes)
    runs = 0
    for segment in entry.segments:
        if isinstance(segment, Literal):
            continue
        name = _name_of(segment, entry)
        if name is None:
            # Opaque parts of a file are told apart by their number.
            name, runs = f"{entry.path.rpartition('/')[2]}\0{runs}", runs + 1
        for index in range(count_chunks(segment, chunk_bytes)):
            use = next(uses)
            near = f"{name}\0{index}"
            yield use, Likeness(_key(f"{near}\0{use.dtype}\0{use.size}"), _key(near))


def _name_of(segment: Segment, entry: FileEntry) -> str | None:
    if isinstance(segment, Tensor):
        return f"tensor\0{segment.name}"
    if isinstance(segment, Bundle):
        return f"bundle\0{segment.tensors[0].name}"
    if isinstance(segment, Share):
        # Many small files are a chunk; the first of them names it.
        return f"share\0{entry.path}"
    return None


def _key(text: str) -> bytes:
    return blake3(text.encode("utf-8", "surrogatepass")).digest(_KEY_BYTES)
