"""The hashes of the Xet protocol: BLAKE3 with a key for each use.

Chunks are the leaves of a tree whose shape depends on the hashes themselves; its root is the hash
of a xorb, and, hashed once more, that of a file (https://huggingface.co/docs/xet/hashing).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

from blake3 import blake3

HASH_BYTES = 32

_CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
_NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
_RANGE_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
_FILE_KEY = bytes(HASH_BYTES)

# A node has 2 to 9 children; from the third on, one whose hash is a multiple of 4 is the last.
_MIN_CHILDREN = 3
_MAX_CHILDREN = 9
_CUT_MASK = 3
_CUT_BYTE = 24

_GROUPS = struct.Struct("<4Q")
_TEXT = re.compile("[0-9a-f]{64}")


def hash_chunk(data: bytes | bytearray | memoryview) -> bytes:
    """Returns the hash of a chunk's raw bytes."""
    return blake3(data, key=_CHUNK_KEY).digest()


def hash_range(hashes: bytes) -> bytes:
    """Returns the proof of knowing a range of chunks, given their hashes back to back."""
    return blake3(hashes, key=_RANGE_KEY).digest()


def hash_xorb(chunks: Iterable[tuple[bytes, int]]) -> bytes:
    """Returns the hash of a xorb, given the hash and the raw bytes of each chunk."""
    tree = TreeHasher()
    for digest, size in chunks:
        tree.add(digest, size)
    return tree.root()


def format_hash(digest: bytes) -> str:
    """Returns the text form of a hash: four little-endian integers of 64 bits in hexadecimal.

    Not the hexadecimal of its bytes: those of each group of eight come in reverse.
    """
    return swap_groups(digest).hex()


def parse_hash(text: str) -> bytes:
    """Returns the 32 bytes that `format_hash` gives `text` for. Raises ValueError."""
    if not _TEXT.fullmatch(text):
        raise ValueError(f"not a hash of 64 hexadecimal digits: {text[:80]!r}")
    return swap_groups(bytes.fromhex(text))


def swap_groups(digest: bytes) -> bytes:
    """Returns 32 bytes with those of each group of eight in reverse, as shards keep a SHA-256."""
    return struct.pack(">4Q", *_GROUPS.unpack(digest))


class TreeHasher:
    """Computes the root of the tree over chunks as they come, in memory for one branch of it."""

    def __init__(self) -> None:
        # For each level the nodes that have no parent yet, and how many it has had.
        self._open: list[list[tuple[bytes, int]]] = [[]]
        self._seen = [0]

    def add(self, digest: bytes, size: int) -> None:
        """Adds the next chunk: its hash and its raw bytes."""
        self._add(0, digest, size)

    def root(self) -> bytes:
        """Returns the root; zeros where there was no chunk. Nothing is added afterwards."""
        if not self._seen[0]:
            return bytes(HASH_BYTES)
        level = 0
        while self._seen[level] > 1:
            if self._open[level]:
                self._close(level)
            level += 1
        return self._open[level][0][0]

    def file_hash(self) -> bytes:
        """Returns the hash of the file that the chunks make up."""
        if not self._seen[0]:
            return bytes(HASH_BYTES)
        return blake3(self.root(), key=_FILE_KEY).digest()

    def _add(self, level: int, digest: bytes, size: int) -> None:
        if level == len(self._open):
            self._open.append([])
            self._seen.append(0)
        children = self._open[level]
        children.append((digest, size))
        self._seen[level] += 1
        is_last = not digest[_CUT_BYTE] & _CUT_MASK
        if len(children) == _MAX_CHILDREN or (is_last and len(children) >= _MIN_CHILDREN):
            self._close(level)

    def _close(self, level: int) -> None:
        children = self._open[level]
        lines = "".join(f"{format_hash(digest)} : {size}\n" for digest, size in children)
        node = blake3(lines.encode(), key=_NODE_KEY).digest()
        size = sum(size for _, size in children)
        children.clear()
        self._add(level + 1, node, size)
