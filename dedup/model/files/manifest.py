"""The manifest: which files a revision has and which segments make up each (FORMAT.md, Manifest).

A manifest is a pure function of the files pushed: the same files give the same bytes, so its
BLAKE3 names it and two pushes of one model share it.
"""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import zstandard
from blake3 import blake3

from ...errors import InvalidManifest, InvalidName
from ..strict_json import InvalidJson, parse_json
from .entries import FileEntry
from .outlines import OutlineReader, natural
from .segments import (
    CHUNK_BYTES,
    Bundle,
    Literal,
    Opaque,
    Segment,
    Share,
    chunk_sizes,
    count_chunks,
)

MAGIC = b"\x89WVM"
VERSION = 1
# Half a million tensors; parsed, it takes about ten times its length in memory.
MAX_OUTLINE_BYTES = 1 << 26
MAX_VALUES = 500_000
"""JSON values of an outline that is uploaded, and half as many more as the manifest has bytes. They
take about 50 bytes of memory each. Outlines of 30,000 equal files or 120,000 tiny tensors compress
to nothing and reach it; others have five times fewer."""
# What an outline may expand to, besides eight times the bytes of its manifest.
_MAX_PACKED_BYTES = 1 << 23
_MAX_DEPTH = 12
_HEAD = struct.Struct("<4sB3xIII")
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a revision, sorted by path, and the chunk size their tensors are cut at."""

    files: tuple[FileEntry, ...]
    chunk_bytes: int = CHUNK_BYTES
    # A commit asks half a dozen times.
    _digests: Mapping[bytes, int] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    @property
    def size(self) -> int:
        """Logical bytes: the sum of the files' sizes."""
        return sum(f.size for f in self.files)

    def file(self, path: str) -> FileEntry | None:
        """Returns the entry of `path`, or None."""
        return next((f for f in self.files if f.path == path), None)

    def digests(self) -> Mapping[bytes, int]:
        """Every distinct chunk with its raw size in bytes, in order of first use; not to be
        changed."""
        if self._digests is None:
            object.__setattr__(self, "_digests", self._list_digests())
        assert self._digests is not None
        return self._digests

    def _list_digests(self) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for entry in self.files:
            for segment in entry.segments:
                if isinstance(segment, Literal):
                    continue
                if isinstance(segment, Share):
                    found[segment.chunks[0]] = segment.whole
                elif len(segment.chunks) == 1 and 2 * segment.size <= self.chunk_bytes:
                    found[segment.chunks[0]] = segment.size
                else:
                    sizes = chunk_sizes(segment, self.chunk_bytes)
                    found.update(zip(segment.chunks, sizes, strict=True))
        return found


def pack_manifest(manifest: Manifest) -> bytes:
    """Returns the manifest's bytes (FORMAT.md, Manifest)."""
    digests = list(manifest.digests())
    index = {digest: i for i, digest in enumerate(digests)}
    outline = {
        "chunk_bytes": manifest.chunk_bytes,
        "files": [_pack_file(f, index) for f in manifest.files],
    }
    text = json.dumps(outline, separators=(",", ":"), ensure_ascii=False).encode()
    stored = zstandard.ZstdCompressor(level=9).compress(text)
    head = _HEAD.pack(MAGIC, VERSION, len(digests), len(text), len(stored))
    return head + b"".join(digests) + stored


def parse_manifest(data: bytes, *, stored: bool = False) -> Manifest:
    """Reads a manifest from outside; raises InvalidManifest unless every part of it adds up.

    What it may expand to is in proportion to its bytes (MAX_VALUES), but for one that is `stored`:
    it was let in before, or has grown commit by commit.
    """
    most_text = MAX_OUTLINE_BYTES if stored else _MAX_PACKED_BYTES + 8 * len(data)
    digests, text = _open_envelope(data, most_text)
    most = len(text) if stored else MAX_VALUES + len(data) // 2
    try:
        outline = parse_json(
            text,
            most_values=most,
            most_depth=_MAX_DEPTH,
            make_object=OutlineReader(digests).make_object,
        )
        chunk_bytes, files = natural(outline["chunk_bytes"]), outline["files"]
    except InvalidJson as error:
        raise InvalidManifest(f"manifest is malformed: {error.message}") from error
    except (KeyError, TypeError, IndexError, ValueError, InvalidName) as error:
        raise InvalidManifest(f"manifest is malformed: {error}") from error
    if not 1 << 16 <= chunk_bytes <= CHUNK_BYTES or chunk_bytes % 8:
        raise InvalidManifest(f"manifest cuts tensors at {chunk_bytes} bytes")
    manifest = Manifest(_checked_files(files, chunk_bytes), chunk_bytes)
    check_paths(f.path for f in manifest.files)
    return manifest


def manifest_name(data: bytes) -> str:
    """The name of a manifest: the BLAKE3-256 of its bytes, in hexadecimal."""
    return blake3(data).hexdigest()


def _pack_file(entry: FileEntry, index: dict[bytes, int]) -> dict[str, Any]:
    return {
        "path": entry.path,
        "size": entry.size,
        "blake3": entry.digest.hex(),
        **({"executable": True} if entry.executable else {}),
        "segments": [_pack_segment(s, index) for s in entry.segments],
    }


def _pack_segment(segment: Segment, index: dict[bytes, int]) -> dict[str, Any]:
    if isinstance(segment, Literal):
        return {"literal": b64encode(segment.data).decode()}
    if isinstance(segment, Share):
        place = [index[segment.chunks[0]], segment.start, segment.whole]
        return {"share": place, "size": segment.size}
    common = {"size": segment.size, "chunks": [index[d] for d in segment.chunks]}
    if isinstance(segment, Opaque):
        return common
    if isinstance(segment, Bundle):
        if segment.gaps:
            mixed = [[tensor.name, tensor.shape, tensor.dtype] for tensor in segment.tensors]
            return {"bundle": mixed, "gaps": segment.gaps, **common}
        tensors = [[tensor.name, tensor.shape] for tensor in segment.tensors]
        return {"bundle": tensors, "dtype": segment.dtype, **common}
    parts = {"parts": segment.parts} if segment.parts else {}
    named = {"tensor": segment.name, "dtype": segment.dtype, "shape": segment.shape}
    return {**named, **parts, **common}


def _open_envelope(data: bytes, most_text: int) -> tuple[list[bytes], bytes]:
    if len(data) < _HEAD.size:
        raise InvalidManifest(f"manifest is cut short at {len(data)} bytes")
    magic, version, count, text_bytes, stored_bytes = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise InvalidManifest("these bytes are not a manifest")
    if version != VERSION:
        raise InvalidManifest(
            f"manifest has format version {version}, this weightvault reads {VERSION}",
            "upgrade weightvault",
        )
    table_end = _HEAD.size + _DIGEST_BYTES * count
    if table_end + stored_bytes != len(data):
        raise InvalidManifest("manifest lengths do not add up")
    if text_bytes > min(most_text, MAX_OUTLINE_BYTES):
        raise InvalidManifest(f"manifest of {len(data)} bytes has an outline of {text_bytes} bytes")
    table = data[_HEAD.size : table_end]
    digests = [table[i : i + _DIGEST_BYTES] for i in range(0, len(table), _DIGEST_BYTES)]
    if len(set(digests)) != count:
        raise InvalidManifest("manifest lists a chunk twice")
    return digests, _decompress(data[table_end:], text_bytes)


def _decompress(stored: bytes, text_bytes: int) -> bytes:
    try:
        # The header's promise is checked against ours before anything is allocated by it.
        if zstandard.frame_content_size(stored) != text_bytes:
            raise InvalidManifest("manifest outline has another length than stated")
        return zstandard.ZstdDecompressor().decompress(stored)
    except zstandard.ZstdError as error:
        raise InvalidManifest(f"manifest outline does not decompress: {error}") from error


def _checked_files(files: Any, chunk_bytes: int) -> tuple[FileEntry, ...]:
    if not isinstance(files, list) or not all(isinstance(f, FileEntry) for f in files):
        raise InvalidManifest("manifest is malformed: its files are no list of files")
    for segment in (segment for file in files for segment in file.segments):
        if isinstance(segment, Literal):
            continue
        if len(segment.chunks) != count_chunks(segment, chunk_bytes):
            found = f"{len(segment.chunks)} chunks cannot make up {segment.size} bytes"
            raise InvalidManifest(found)
    return tuple(files)


def check_paths(paths: Iterable[str]) -> None:
    """Raises InvalidManifest unless paths are distinct, sorted, and none is another's folder."""
    seen = list(paths)
    if seen != sorted(set(seen)):
        raise InvalidManifest("files of a manifest must be sorted by path and distinct")
    # With slashes before all other characters, what lies in a folder follows its name at once.
    nested = sorted(seen, key=lambda path: path.replace("/", "\0"))
    for path, below in pairwise(nested):
        if below.startswith(f"{path}/"):
            raise InvalidManifest(f"{path!r} is both a file and a folder")
