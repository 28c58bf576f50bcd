"""Reads xorbs as clients serialise them (https://huggingface.co/docs/xet/xorb).

Chunks back to back, each a header of 8 bytes and its data; a footer may follow, which repeats what
the chunks tell and is not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import lz4.frame
import numpy as np

from ..errors import InvalidUpload

MAX_XORB_BYTES = 64 << 20
"""Raw bytes of all chunks of a xorb together."""

MAX_XORB_CHUNKS = 8192

MAX_SERIALISED_BYTES = MAX_XORB_BYTES + (2 << 20)
"""What a client may send: no chunk grows by more than its header and the frame around it, and a
footer takes some 40 bytes a chunk."""

_HEADER_BYTES = 8
_FOOTER_MAGIC = b"XETBLOB"
_PLAIN, _LZ4, _GROUPED_LZ4 = range(3)
_SCHEMES = (_PLAIN, _LZ4, _GROUPED_LZ4)
_GROUP = 4


def read_chunks(file: BinaryIO) -> Iterator[bytes | memoryview]:
    """Yields the raw bytes of each chunk of a serialised xorb.

    One chunk is in memory at a time. Raises InvalidUpload where the xorb is malformed, has no
    chunk, or exceeds the limits above; OSError as the file does.
    """
    left, count = MAX_XORB_BYTES, 0
    while header := file.read(_HEADER_BYTES):
        if header.startswith(_FOOTER_MAGIC):
            break
        if count == MAX_XORB_CHUNKS:
            raise InvalidUpload(f"xorb of more than {MAX_XORB_CHUNKS} chunks")
        stored_bytes, scheme, raw_bytes = _parse_header(header, count)
        left -= raw_bytes
        if left < 0:
            raise InvalidUpload(f"xorb of more than {MAX_XORB_BYTES} raw bytes")
        stored = file.read(stored_bytes)
        if len(stored) != stored_bytes:
            raise InvalidUpload(f"xorb ends inside chunk {count}")
        yield _decode(stored, scheme, raw_bytes, count)
        count += 1
    if not count:
        raise InvalidUpload("xorb without chunks")


def _parse_header(header: bytes, index: int) -> tuple[int, int, int]:
    """Returns stored bytes, scheme and raw bytes."""
    if len(header) != _HEADER_BYTES:
        raise InvalidUpload(f"xorb ends inside the header of chunk {index}")
    version, scheme = header[0], header[4]
    if version != 0 or scheme not in _SCHEMES:
        raise InvalidUpload(f"chunk {index} of a xorb has version {version}, scheme {scheme}")
    stored_bytes = int.from_bytes(header[1:4], "little")
    raw_bytes = int.from_bytes(header[5:8], "little")
    if not raw_bytes:
        raise InvalidUpload(f"chunk {index} of a xorb is empty")
    return stored_bytes, scheme, raw_bytes


def _decode(stored: bytes, scheme: int, raw_bytes: int, index: int) -> bytes | memoryview:
    raw = stored if scheme == _PLAIN else _decompress(stored, raw_bytes, index)
    if len(raw) != raw_bytes:
        raise InvalidUpload(f"chunk {index} of a xorb has {len(raw)} bytes, not {raw_bytes}")
    return _join_groups(raw) if scheme == _GROUPED_LZ4 else raw


def _decompress(stored: bytes, raw_bytes: int, index: int) -> bytes:
    decompressor = lz4.frame.LZ4FrameDecompressor()
    try:
        # One byte more than promised, so that what is longer shows, and nothing beyond it is made.
        raw = decompressor.decompress(stored, max_length=raw_bytes + 1)
    except (RuntimeError, EOFError) as error:
        raise InvalidUpload(f"chunk {index} of a xorb does not decompress: {error}") from error
    if not decompressor.eof or decompressor.unused_data:
        raise InvalidUpload(f"chunk {index} of a xorb is not one whole LZ4 frame")
    return raw


def _join_groups(grouped: bytes) -> memoryview:
    """Undoes the grouping of bytes by their place, modulo 4."""
    groups = np.frombuffer(grouped, np.uint8)
    raw = np.empty_like(groups)
    start = 0
    for place in range(min(_GROUP, raw.size)):
        members = raw[place::_GROUP]
        members[:] = groups[start : start + members.size]
        start += members.size
    return raw.data
