"""What attackers send: manifests and packs as FORMAT.md has them, made by hand."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import zstandard
from blake3 import blake3

CHUNK_BYTES = 32 << 20
_MAGIC = b"\x89WVM\1\0\0\0"


def make_manifest(outline: bytes, digests: list[bytes]) -> bytes:
    """The bytes of a manifest with a JSON text of any content."""
    stored = zstandard.ZstdCompressor(level=19).compress(outline)
    lengths = struct.pack("<III", len(digests), len(outline), len(stored))
    return _MAGIC + lengths + b"".join(digests) + stored


def make_files(files: list[dict[str, Any]], digests: list[bytes]) -> bytes:
    """The bytes of a manifest of files."""
    outline = {"chunk_bytes": CHUNK_BYTES, "files": files}
    return make_manifest(json.dumps(outline, separators=(",", ":")).encode(), digests)


def empty_files(paths: list[str]) -> bytes:
    """The bytes of a manifest of files without content."""
    digest = blake3(b"").hexdigest()
    files = [{"path": p, "size": 0, "blake3": digest, "segments": []} for p in paths]
    return make_files(files, [])


def change_manifest(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The bytes of a manifest whose JSON text was changed."""
    count, length, _ = struct.unpack_from("<III", data, len(_MAGIC))
    start = len(_MAGIC) + 12
    text = zstandard.ZstdDecompressor().decompress(data[start + 32 * count :], length)
    outline = json.loads(text)
    change(outline)
    digests = [data[start + 32 * i :][:32] for i in range(count)]
    return make_manifest(json.dumps(outline, separators=(",", ":")).encode(), digests)
