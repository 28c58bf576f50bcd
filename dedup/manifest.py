"""The manifest: which files a revision has and which segments make up each (FORMAT.md, Manifest).

A manifest is a pure function of the files pushed: the same files give the same bytes, so its
BLAKE3 names it and two pushes of one model share it.
"""

from __future__ import annotations

import json
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import zstandard
from blake3 import blake3

from .errors import InvalidManifest, InvalidName
from .names import check_path
from .segments import (
    CHUNK_BYTES,
    MAX_LITERAL_BYTES,
    Bundle,
    Literal,
    Opaque,
    Segment,
    Tensor,
    chunk_sizes,
    coding_facts,
    count_chunks,
    tensor_bytes,
)

MAGIC = b"\x89WVM"
VERSION = 1
# Half a million tensors; parsed, it takes about ten times its length in memory.
MAX_OUTLINE_BYTES = 1 << 26
_HEAD = struct.Struct("<4sB3xIII")
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a revision: path, size in bytes, BLAKE3-256 of its bytes, its segments."""

    path: str
    size: int
    digest: bytes
    segments: tuple[Segment, ...]

    @property
    def tensors(self) -> Iterator[Tensor]:
        """The file's tensors, in file order."""
        return (place.tensor for place in self.places())

    def places(self) -> Iterator[TensorPlace]:
        """Yields each tensor with its place in the file, in file order."""
        offset = 0
        for segment in self.segments:
            if isinstance(segment, Tensor):
                yield TensorPlace(segment, self.path, offset, segment.chunks, 0)
            elif isinstance(segment, Bundle):
                start = 0
                for tensor in segment.tensors:
                    yield TensorPlace(tensor, self.path, offset + start, segment.chunks, start)
                    start += tensor.size
            offset += segment.size

    def chunks(self, chunk_bytes: int = CHUNK_BYTES) -> Iterator[ChunkUse]:
        """Yields each chunk with its place in the file, in file order."""
        offset = 0
        for segment in self.segments:
            if not isinstance(segment, Literal):
                yield from _uses(segment, offset, chunk_bytes)
            offset += segment.size

    def recipe(self) -> bytes:
        """BLAKE3-256 over the file's segments: equal recipes rebuild equal bytes."""
        outline = json.dumps([_segment_key(s) for s in self.segments], separators=(",", ":"))
        return blake3(outline.encode()).digest()


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """A tensor, the file it is in, its first byte there, the chunks that hold it, and its first
    byte in these."""

    tensor: Tensor
    path: str
    offset: int
    chunks: tuple[bytes, ...]
    start: int


@dataclass(frozen=True, slots=True)
class ChunkUse:
    """A chunk at a place in a file: digest, first byte in the file, bytes, dtype to code it as,
    and how many elements a row of its tensor has, where it has rows."""

    digest: bytes
    offset: int
    size: int
    dtype: str
    columns: int | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a revision, sorted by path, and the chunk size their tensors are cut at."""

    files: tuple[FileEntry, ...]
    chunk_bytes: int = CHUNK_BYTES

    @property
    def size(self) -> int:
        """Logical bytes: the sum of the files' sizes."""
        return sum(f.size for f in self.files)

    def file(self, path: str) -> FileEntry | None:
        """Returns the entry of `path`, or None."""
        return next((f for f in self.files if f.path == path), None)

    def digests(self) -> dict[bytes, int]:
        """Every distinct chunk with its raw size in bytes, in order of first use."""
        return {use.digest: use.size for f in self.files for use in f.chunks(self.chunk_bytes)}


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


def parse_manifest(data: bytes) -> Manifest:
    """Reads a manifest from outside; raises InvalidManifest unless every part of it adds up."""
    digests, text = _open_envelope(data)
    try:
        outline = json.loads(text)
        chunk_bytes = _natural(outline["chunk_bytes"])
        if not 1 << 16 <= chunk_bytes <= CHUNK_BYTES or chunk_bytes % 8:
            raise InvalidManifest(f"manifest cuts tensors at {chunk_bytes} bytes")
        files = tuple(_parse_file(f, digests, chunk_bytes) for f in outline["files"])
    except (KeyError, TypeError, IndexError, ValueError, RecursionError, InvalidName) as error:
        raise InvalidManifest(f"manifest is malformed: {error}") from error
    check_paths([f.path for f in files])
    return Manifest(files, chunk_bytes)


def manifest_name(data: bytes) -> str:
    """The name of a manifest: the BLAKE3-256 of its bytes, in hexadecimal."""
    return blake3(data).hexdigest()


def manifest_key(name: str) -> str:
    """Where a manifest lives in the object store."""
    return f"manifests/{name[:2]}/{name}"


def _uses(segment: Opaque | Tensor | Bundle, offset: int, chunk_bytes: int) -> Iterator[ChunkUse]:
    dtype, columns = coding_facts(segment)
    sizes = chunk_sizes(segment, chunk_bytes)
    for digest, size in zip(segment.chunks, sizes, strict=True):
        yield ChunkUse(digest, offset, size, dtype, columns)
        offset += size


def _segment_key(segment: Segment) -> list[Any]:
    if isinstance(segment, Literal):
        return [segment.data.hex()]
    return [segment.size, *(d.hex() for d in segment.chunks)]


def _pack_file(entry: FileEntry, index: dict[bytes, int]) -> dict[str, Any]:
    return {
        "path": entry.path,
        "size": entry.size,
        "blake3": entry.digest.hex(),
        "segments": [_pack_segment(s, index) for s in entry.segments],
    }


def _pack_segment(segment: Segment, index: dict[bytes, int]) -> dict[str, Any]:
    if isinstance(segment, Literal):
        return {"literal": b64encode(segment.data).decode()}
    common = {"size": segment.size, "chunks": [index[d] for d in segment.chunks]}
    if isinstance(segment, Opaque):
        return common
    if isinstance(segment, Bundle):
        tensors = [[tensor.name, tensor.shape] for tensor in segment.tensors]
        return {"bundle": tensors, "dtype": segment.dtype, **common}
    parts = {"parts": segment.parts} if segment.parts else {}
    named = {"tensor": segment.name, "dtype": segment.dtype, "shape": segment.shape}
    return {**named, **parts, **common}


def _open_envelope(data: bytes) -> tuple[list[bytes], bytes]:
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
    if table_end + stored_bytes != len(data) or text_bytes > MAX_OUTLINE_BYTES:
        raise InvalidManifest("manifest lengths do not add up")
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


def _parse_file(outline: dict[str, Any], digests: list[bytes], chunk_bytes: int) -> FileEntry:
    size = _natural(outline["size"])
    digest = bytes.fromhex(outline["blake3"])
    segments = tuple(_parse_segment(s, digests, chunk_bytes) for s in outline["segments"])
    path = check_path(_text(outline["path"]))
    if len(digest) != _DIGEST_BYTES:
        raise InvalidManifest(f"file {path!r} has a digest of {len(digest)} bytes")
    if sum(s.size for s in segments) != size:
        raise InvalidManifest(f"segments of {path!r} do not cover its {size} bytes")
    return FileEntry(path, size, digest, segments)


def _parse_segment(outline: dict[str, Any], digests: list[bytes], chunk_bytes: int) -> Segment:
    if "literal" in outline:
        data = b64decode(outline["literal"], validate=True)
        if len(data) > MAX_LITERAL_BYTES:
            raise InvalidManifest(f"literal of {len(data)} bytes; at most {MAX_LITERAL_BYTES}")
        return Literal(data)
    size = _natural(outline["size"])
    chunks = tuple(digests[_natural(i)] for i in outline["chunks"])
    segment: Opaque | Tensor | Bundle = Opaque(size, chunks)
    if "bundle" in outline:
        segment = _parse_bundle(outline, size, chunks)
    elif "tensor" in outline:
        shape = tuple(_natural(n) for n in outline["shape"])
        parts = tuple(_natural(n) for n in outline.get("parts", ()))
        named = _text(outline["tensor"]), _text(outline["dtype"])
        segment = Tensor(*named, shape, size, chunks, parts)
        check_tensor_size(segment)
    if len(chunks) != count_chunks(segment, chunk_bytes):
        raise InvalidManifest(f"{len(chunks)} chunks cannot make up {size} bytes")
    return segment


def _parse_bundle(outline: dict[str, Any], size: int, chunks: tuple[bytes, ...]) -> Bundle:
    dtype = _text(outline["dtype"])
    tensors = []
    for name, shape in outline["bundle"]:
        dimensions = tuple(_natural(n) for n in shape)
        taken = tensor_bytes(dtype, dimensions)
        if taken is None:
            raise InvalidManifest(f"bundle of tensors of dtype {dtype!r}")
        tensors.append(Tensor(_text(name), dtype, dimensions, taken))
    if not tensors:
        raise InvalidManifest("bundle without tensors")
    bundle = Bundle(tuple(tensors), chunks)
    if bundle.size != size:
        raise InvalidManifest(f"tensors of a bundle take {bundle.size} bytes, not {size}")
    return bundle


def check_tensor_size(tensor: Tensor) -> None:
    """Raises InvalidManifest if a tensor of a known dtype has not the bytes its shape takes, or one
    of parts not theirs."""
    expected = tensor_bytes(tensor.dtype, tensor.shape)
    if expected is not None and expected != tensor.size:
        raise InvalidManifest(
            f"tensor {tensor.name!r} of shape {list(tensor.shape)} and dtype {tensor.dtype} "
            f"takes {expected} bytes, not {tensor.size}"
        )
    if tensor.parts and (0 in tensor.parts or sum(tensor.parts) != tensor.size):
        raise InvalidManifest(f"the parts of tensor {tensor.name!r} do not make up its bytes")


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


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise InvalidManifest(f"{value!r} is not a length or index")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidManifest(f"{value!r} is not a text")
    return value
