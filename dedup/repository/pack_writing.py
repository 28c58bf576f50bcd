"""Adds frames to packs: what an index says of a frame is what its header says."""

from __future__ import annotations

from ...codecs.dtypes import find_dtype
from ...codecs.errors import FrameError
from ...codecs.frame import CODEC_IDS, Buffer, parse_header
from ...store.packs import PackWriter
from ..errors import Corrupt

PACK_BYTES = 64 * 1024 * 1024
"""A pack of so many bytes is full: one request each way on S3 for as much as is worth one, and
two of them in memory; a frame is at most 32 MiB."""


def add_frame(writer: PackWriter, frame: Buffer) -> None:
    """Appends a frame to a pack. Raises Corrupt for what is no frame, and as PackWriter.add."""
    try:
        header = parse_header(frame)
    except FrameError as error:
        raise Corrupt(f"a stored frame is damaged: {error}", "run `weightvault scrub`") from error
    writer.add(
        frame,
        digest=header.digest,
        raw_bytes=header.raw_bytes,
        codec=CODEC_IDS[header.codec],
        dtype=find_dtype(header.dtype).id,
        inputs=header.inputs,
        derived=header.is_derived,
        depth=header.depth,
    )
