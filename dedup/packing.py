"""Adds frames to packs: what an index says of a frame is what its header says."""

from __future__ import annotations

from ..codecs.dtypes import find_dtype
from ..codecs.frame import CODEC_IDS, parse_header
from ..store.pack import PackWriter


def add_frame(writer: PackWriter, frame: bytes) -> None:
    """Appends a frame to a pack. Raises the errors of PackWriter.add."""
    header = parse_header(frame)
    writer.add(
        frame,
        digest=header.digest,
        raw_bytes=header.raw_bytes,
        codec=CODEC_IDS[header.codec],
        dtype=find_dtype(header.dtype).id,
        base_digest=header.base_digest,
    )
