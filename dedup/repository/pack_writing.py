"""Adds frames to packs: what an index says of a frame is what its header says."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ...codecs.dtypes import find_dtype
from ...codecs.errors import FrameError
from ...codecs.frame import CODEC_IDS, Buffer, parse_header, set_depth
from ...store.packs import STANDALONE, PackEntry, PackWriter
from ..errors import Corrupt, InvalidFrame
from ..model.inputs import CHAIN_LENGTH

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


def depths_of(entries: Collection[PackEntry], levels: Mapping[bytes, int]) -> dict[bytes, int]:
    """Returns the depths of those deltas that are deeper than they say, by digest, given the levels
    of their bases; not of those whose chain would be too long."""
    found: dict[bytes, int] = {}
    for entry in entries:
        if entry.base_digest is not None:
            depth = levels.get(entry.base_digest, STANDALONE) + 1
            if entry.depth < depth <= CHAIN_LENGTH:
                found[entry.digest] = depth
    return found


def write_deeper(
    path: Path, target: Path, entries: Sequence[PackEntry], depths: Mapping[bytes, int]
) -> str:
    """Writes the pack at `path` to `target` with those depths in its deltas; returns its name.

    Who may not read all repos is sent raw frames, so it cannot see which chunks are deltas: its
    own deltas say that their bases are standalone. All else of them stays as it is. Raises Corrupt
    for what is no frame.
    """
    with path.open("rb") as file, PackWriter(target) as writer:
        for entry in entries:
            file.seek(entry.offset)
            frame = bytearray(file.read(entry.frame_bytes))
            if entry.digest in depths:
                _deepen(frame, depths[entry.digest])
            add_frame(writer, frame)
        return writer.finish()


def _deepen(frame: bytearray, depth: int) -> None:
    try:
        set_depth(frame, depth)
    except FrameError as error:
        raise InvalidFrame(f"a frame is not well-formed: {error}", "push again") from error
