"""What a file is made of, without any vault: its segments with their digests and sketches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidFile
from ..formats.registry import find_format
from ..formats.scan import scan_files
from ..model.files.entries import FileEntry
from ..model.files.segments import Bundle, Literal, Tensor
from ..model.paths import Remark
from ..model.sketch_file import Sketches
from ..progress import Progress


@dataclass(frozen=True, slots=True)
class Part:
    """One segment: where it lies, what it is, and what it would be stored as.

    `kind` is "tensor", "opaque" or "literal". `digests` are those of its chunks, in hexadecimal;
    many small tensors in a row are one chunk, and have its digest.
    `sketch` are the bits that related tensors share nearly all of, in hexadecimal, of its first
    chunk; None where they say nothing (dedup.model.sketch).
    """

    kind: str
    offset: int
    size: int
    digests: tuple[str, ...] = ()
    name: str | None = None
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    sketch: str | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """A file: its format, bytes, BLAKE3 in hexadecimal, its parts in order, and what is odd about
    it, None for most."""

    path: str
    format: str
    size: int
    blake3: str
    parts: tuple[Part, ...]
    warning: str | None = None


def inspect_file(path: Path, progress: Progress | None = None) -> Inspection:
    """Takes a file apart as a push would, and hashes it; reads no other file and writes nothing.

    `format` is what it was tried as; one that breaks it has only opaque parts. Raises InvalidFile
    where there is no such file or it cannot be read.
    """
    if not path.is_file():
        raise InvalidFile(f"{path} is not a file", _say_instead(path))
    sketches: Sketches = {}
    warnings: list[Remark] = []
    files = {path.name: path}
    manifest = scan_files(files, progress or Progress(), sketches=sketches, warnings=warnings)
    entry = manifest.files[0]
    with path.open("rb") as file:
        kind = find_format(path.name, file)
    parts = tuple(_parts(entry, sketches))
    odd = warnings[0].reason if warnings else None
    return Inspection(str(path), kind, entry.size, entry.digest.hex(), parts, odd)


def _say_instead(path: Path) -> str:
    if path.is_dir():
        return "name one of the files in it; `weightvault push` takes folders"
    if path.exists():
        return "what comes out of a pipe or a device can be read but once: keep it in a file first"
    return "there is nothing of that name"


def _parts(entry: FileEntry, sketches: Sketches) -> Iterator[Part]:
    offset = 0
    for segment in entry.segments:
        if isinstance(segment, Literal):
            yield Part("literal", offset, segment.size)
        else:
            digests = tuple(digest.hex() for digest in segment.chunks)
            if isinstance(segment, Tensor):
                sketch = sketches[segment.chunks[0]]
                bits = sketch.bits.hex() if sketch.kind is not None else None
                facts = segment.name, segment.dtype, segment.shape, bits
                yield Part("tensor", offset, segment.size, digests, *facts)
            elif isinstance(segment, Bundle):
                for tensor, at in segment.places():
                    facts = tensor.name, tensor.dtype, tensor.shape
                    yield Part("tensor", offset + at, tensor.size, digests, *facts)
            else:
                yield Part("opaque", offset, segment.size, digests)
        offset += segment.size
