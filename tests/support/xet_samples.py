"""Files, xorbs and shards to try the Xet protocol with.

`tests/dedup/xet/golden` holds what hf_xet 1.8.0 sent for `golden_files`: one xorb and one shard.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path

import lz4.frame
import numpy as np

from weightvault.dedup.xet.hashes import TreeHasher, hash_chunk, hash_range, hash_xorb, swap_groups

GOLDEN = Path(__file__).parents[1] / "dedup" / "xet" / "golden"
TAG = bytes.fromhex("48465265706f4d6574614461746100556967456a7b815783a5bdd95ccdd14aa9")
END = b"\xff" * 32 + bytes(16)
PLAIN, LZ4, GROUPED = range(3)


def golden_files() -> dict[str, bytes]:
    """Text, floats and noise: hf_xet stores them with its three schemes."""
    text = b"".join(b"line %d of a text that repeats itself\n" % (i % 50) for i in range(6000))
    floats = (np.arange(40_001, dtype=np.float32) / 64).tobytes() + b"xyz"
    noise = hashlib.shake_256(b"weightvault").digest(9_000)
    return {"text": text, "floats": floats, "noise": noise}


def golden(name: str) -> bytes:
    """The bytes of a golden file, "xorb" or "shard"."""
    return (GOLDEN / name).read_bytes()


def group_bytes(raw: bytes) -> bytes:
    return b"".join(raw[place::4] for place in range(4))


def pack_chunk(raw: bytes, scheme: int = PLAIN, /, **header: int) -> bytes:
    """A serialised chunk; `header` overrides what its header says."""
    stored = raw
    if scheme == LZ4:
        stored = lz4.frame.compress(raw)
    elif scheme == GROUPED:
        stored = lz4.frame.compress(group_bytes(raw))
    values = {"version": 0, "stored": len(stored), "scheme": scheme, "raw": len(raw)} | header
    return (
        bytes([values["version"]])
        + values["stored"].to_bytes(3, "little")
        + bytes([values["scheme"]])
        + values["raw"].to_bytes(3, "little")
        + stored
    )


def pack_xorb(chunks: Sequence[bytes], scheme: int = PLAIN) -> tuple[bytes, bytes]:
    """A xorb's hash and its serialised bytes."""
    digest = hash_xorb([(hash_chunk(c), len(c)) for c in chunks])
    return digest, b"".join(pack_chunk(c, scheme) for c in chunks)


def pack_file(segments: Sequence[tuple[bytes, Sequence[bytes], int]], **wrong: bytes) -> bytes:
    """The records of a file made of segments: a xorb's hash, the chunks taken from it, and the
    index of the first of them. `wrong` overrides its "hash", "sha256" or the "proof" of the first.
    """
    tree, sha256 = TreeHasher(), hashlib.sha256()
    records, proofs = [], []
    for xorb, chunks, first in segments:
        for chunk in chunks:
            tree.add(hash_chunk(chunk), len(chunk))
            sha256.update(chunk)
        size = sum(map(len, chunks))
        records.append(struct.pack("<32sIIII", xorb, 0, size, first, first + len(chunks)))
        proofs.append(hash_range(b"".join(map(hash_chunk, chunks))) + bytes(16))
    if "proof" in wrong:
        proofs[0] = wrong["proof"] + bytes(16)
    digest = wrong.get("hash", tree.file_hash())
    header = struct.pack("<32sIIQ", digest, 3 << 30, len(segments), 0)
    summary = swap_groups(wrong.get("sha256", sha256.digest())) + bytes(16)
    return header + b"".join(records) + b"".join(proofs) + summary


def pack_shard(
    files: Sequence[bytes], xorbs: Sequence[tuple[bytes, Sequence[bytes]]] = ()
) -> bytes:
    """A shard of the records of files, and of xorbs given by their hash and chunks."""
    blocks = []
    for digest, chunks in xorbs:
        size = sum(map(len, chunks))
        blocks.append(struct.pack("<32sIIII", digest, 0, len(chunks), size, size))
        offset = 0
        for chunk in chunks:
            blocks.append(struct.pack("<32sIIQ", hash_chunk(chunk), offset, len(chunk), 0))
            offset += len(chunk)
    header = TAG + struct.pack("<QQ", 2, 0)
    return header + b"".join(files) + END + b"".join(blocks) + END
