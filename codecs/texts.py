"""Codes short opaque bytes, most of them texts (FORMAT.md, "Texts").

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
from .rans.streams import HEAD, ZSTD, compress_zstd
from .registry import Frame, Job

DICTIONARY_MOST_BYTES = 32 * 1024
"""What is longer than a dictionary holds more of its own kind than that does: the 39 KB of one
JSON file shrink by 9 bytes, 466 KB of another grow."""

PATCH_MOST_BYTES = 16 << 20
"""Finding what two texts have in common takes two seconds at most."""

_NEWEST = 0
# Of the 466 KB of a tokenizer, in chunks: 209 KB at level 3 and 185 MB/s, 191 KB at 12, 176 KB at
# 15 and 12 MB/s, 173 KB at 19 and 7 MB/s. All the text of a model is a second or two.
_LEVELS = {"fast": 3, "default": 15, "max": 19}
# Programs in chunks of 1 MiB take 9 % less at 19 than at 15, arrays of integers in bundles 6 %
# more: what is short is tried at both.
_BOTH_MOST_BYTES = 1 << 20
_TEXT_SHARE = 0.7
_BLOCK_BYTES = PATCH_MOST_BYTES
_LAYOUT_BYTES = 0
# A base takes as much in the index of its pack as in the frame, where it is counted.
_BASE_COST_BYTES = 32
_local = threading.local()


def encode(job: Job) -> list[Frame]:
    """Returns the frames of opaque bytes, of those that the job's codec allows, that pay for
    themselves: against the dictionary, against the base, and alone with more effort than weights
    are worth."""
    data, base, codec, level, digest = job.data, job.base, job.codec, job.level, job.digest
    if job.dtype.name != "U8" or not 0 < data.size <= PATCH_MOST_BYTES:
        return []
    most = data.size + frames.RAW_OVERHEAD_BYTES
    found: list[Frame] = []
    if codec in (None, "zstd-dictionary") and data.size <= DICTIONARY_MOST_BYTES:
        body = bytes([_NEWEST]) + _compressor(_LEVELS[level]).compress(data.data)
        found.append(_pack("zstd-dictionary", data, digest, body, None))
    if codec is None and level != "fast" and _looks_like_text(data):
        efforts = (15, 19) if data.size <= _BOTH_MOST_BYTES else (19,)
        packed = (compress_zstd(data.data, effort) for effort in efforts)
        found.append(_pack_zstd(data, digest, min(packed, key=len)))
    if codec in (None, "zstd-patch") and base and 0 < base[0].size <= PATCH_MOST_BYTES:
        patch = _encode_patch(data, base, level, digest)
        if codec is not None or len(patch) + _BASE_COST_BYTES < min([most, *map(len, found)]):
            found.append(patch)
    return [packed for packed in found if len(packed) < most]


def _encode_patch(data: Bytes, base: tuple[Bytes, bytes], level: str, digest: bytes) -> bytes:
    against = zstandard.ZstdCompressionDict(base[0].data, zstandard.DICT_TYPE_RAWCONTENT)
    patch = zstandard.ZstdCompressor(_LEVELS[level], dict_data=against).compress(data.data)
    return _pack("zstd-patch", data, digest, patch, base[1])


def _looks_like_text(data: Bytes) -> bool:
    """Whether it shrinks easily, as no weights do; text that does not is short."""
    return len(compress_zstd(data.data, 1)) < _TEXT_SHARE * data.size


def decode(
    header: frames.FrameHeader, frame: Bytes, start: int, base: Bytes | None, _: int, out: Bytes
) -> None:
    """Decodes the raw bytes of a frame of either codec from ``start`` on into ``out``. Raises
    CorruptFrame or UnsupportedFrame."""
    out[:] = _decode_text(header, frame, base)[start : start + out.size]


def _decode_text(header: frames.FrameHeader, frame: Bytes, base: Bytes | None) -> Bytes:
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


def _pack(codec: str, data: Bytes, digest: bytes, body: bytes, base_digest: bytes | None) -> bytes:
    return frames.pack_flat(codec, "U8", data.size, digest, body, base_digest) + body


def _pack_zstd(data: Bytes, digest: bytes, payload: bytes) -> bytes:
    """Returns a frame of codec ``zstd`` with one block of one stream."""
    block = bytes([_LAYOUT_BYTES]) + HEAD.pack(ZSTD, len(payload)) + payload
    sizes = [(len(block), frames.checksum_block(block))]
    return frames.pack_blocked("zstd", "U8", data.size, digest, None, _BLOCK_BYTES, sizes) + block


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
    """Returns one that this thread keeps: reading the dictionary again takes longer than a text."""
    kept = _local.__dict__.setdefault("compressors", {})
    if level not in kept:
        # Its number is in the frame already.
        kept[level] = zstandard.ZstdCompressor(level, dict_data=_dictionary(), write_dict_id=False)
    return kept[level]


def _decompressor() -> zstandard.ZstdDecompressor:
    if "decompressor" not in _local.__dict__:
        _local.decompressor = zstandard.ZstdDecompressor(dict_data=_dictionary())
    return _local.decompressor
