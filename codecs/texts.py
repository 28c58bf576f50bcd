"""Codes short opaque bytes with what is known of others like them (FORMAT.md, "Texts").

`zstd-dictionary`: dictionary 1 | one zstd frame, made with a dictionary that comes with this
package and so costs no store anything. `zstd-patch`: one zstd frame, made with the base, of any
length, as content that went before: what both have in common is a few copies.
"""

import threading
from functools import cache
from pathlib import Path

import numpy as np
import zstandard

from . import frame as frames
from .buffers import Bytes
from .errors import CorruptFrame, UnsupportedFrame

DICTIONARY_MOST_BYTES = 32 * 1024
"""What is longer than a dictionary holds more of its own kind than that does: the 39 KB of one
JSON file shrink by 9 bytes, 466 KB of another grow."""

PATCH_MOST_BYTES = 512 * 1024
"""Twice the longest opaque chunk. Finding what two texts have in common takes 30 ms at most."""

_NEWEST = 0
_LEVELS = {"fast": 3, "default": 12, "max": 19}
# A base takes as much in the index of its pack as in the frame, where it is counted.
_BASE_COST_BYTES = 32
_local = threading.local()


def encode_texts(
    data: Bytes, base: tuple[Bytes, bytes] | None, codec: str | None, level: str, digest: bytes
) -> list[bytes]:
    """Returns the frames, of those `codec` allows, that pay for themselves: against the dictionary,
    and against ``base``, given with its digest.

    ``data``: (n,) uint8, opaque bytes.
    """
    found: list[bytes] = []
    if codec in (None, "zstd-dictionary") and 0 < data.size <= DICTIONARY_MOST_BYTES:
        body = bytes([_NEWEST]) + _compressor(_LEVELS[level]).compress(data.data)
        found.append(_pack("zstd-dictionary", data, digest, body, None))
    if codec in (None, "zstd-patch") and base is not None and _suits(data, base[0]):
        against = zstandard.ZstdCompressionDict(base[0].data, zstandard.DICT_TYPE_RAWCONTENT)
        patch = zstandard.ZstdCompressor(_LEVELS[level], dict_data=against).compress(data.data)
        packed = _pack("zstd-patch", data, digest, patch, base[1])
        others = [data.size + frames.RAW_OVERHEAD_BYTES, *map(len, found)]
        if codec is not None or len(packed) + _BASE_COST_BYTES < min(others):
            found.append(packed)
    return [packed for packed in found if len(packed) < data.size + frames.RAW_OVERHEAD_BYTES]


def decode_text(header: frames.FrameHeader, frame: Bytes, base: Bytes | None) -> Bytes:
    """Decodes a whole frame of either codec, (n,) uint8. Raises CorruptFrame or
    UnsupportedFrame."""
    most = DICTIONARY_MOST_BYTES if base is None else PATCH_MOST_BYTES
    if header.raw_bytes > most:
        raise CorruptFrame(f"a text of {header.raw_bytes} bytes; {most} are allowed")
    body = frame[header.body_offset :]
    if frames.checksum_body(body.data) != header.body_checksum:
        raise CorruptFrame("the body does not match its checksum")
    if base is not None:
        if not base.size:
            raise CorruptFrame("a patch of nothing")
        known = zstandard.ZstdCompressionDict(base.data, zstandard.DICT_TYPE_RAWCONTENT)
        return _decompress(zstandard.ZstdDecompressor(dict_data=known), body, header.raw_bytes)
    if body[0] != _NEWEST:
        raise UnsupportedFrame(f"frame with the unknown dictionary {body[0]}")
    return _decompress(_decompressor(), body[1:], header.raw_bytes)


def _suits(data: Bytes, base: Bytes) -> bool:
    return 0 < data.size <= PATCH_MOST_BYTES and 0 < base.size <= PATCH_MOST_BYTES


def _pack(codec: str, data: Bytes, digest: bytes, body: bytes, base_digest: bytes | None) -> bytes:
    return frames.pack_flat(codec, "U8", data.size, digest, body, base_digest) + body


def _decompress(zstd: zstandard.ZstdDecompressor, payload: Bytes, raw_bytes: int) -> Bytes:
    try:
        # The library allocates by the size the frame claims: it is checked first.
        if zstandard.frame_content_size(payload.data) != raw_bytes:
            raise CorruptFrame("a zstd frame does not have the length of its text")
        return np.frombuffer(zstd.decompress(payload.data, allow_extra_data=False), np.uint8)
    except zstandard.ZstdError as error:
        raise CorruptFrame(f"a text does not decode: {error}") from None


@cache
def _dictionary() -> zstandard.ZstdCompressionDict:
    data = Path(__file__).with_name(f"dictionary-{_NEWEST}.zdict").read_bytes()
    return zstandard.ZstdCompressionDict(data, zstandard.DICT_TYPE_FULLDICT)


def _compressor(level: int) -> zstandard.ZstdCompressor:
    """Returns one that this thread keeps: reading the dictionary anew takes longer than a text."""
    kept = _local.__dict__.setdefault("compressors", {})
    if level not in kept:
        # Its number is in the frame already.
        kept[level] = zstandard.ZstdCompressor(level, dict_data=_dictionary(), write_dict_id=False)
    return kept[level]


def _decompressor() -> zstandard.ZstdDecompressor:
    if "decompressor" not in _local.__dict__:
        _local.decompressor = zstandard.ZstdDecompressor(dict_data=_dictionary())
    return _local.decompressor
