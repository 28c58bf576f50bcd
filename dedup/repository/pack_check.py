"""Checks a pack from outside before the vault refers to any of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from ...codecs.dtypes import BY_ID, find_dtype
from ...codecs.errors import FrameError
from ...codecs.frame import CODEC_IDS, FrameHeader, parse_header
from ...store.cancel import check_cancelled
from ...store.catalogue.tables.rows import Location
from ...store.errors import StoreError
from ...store.hashing import many_threads
from ...store.packs import PackEntry, check_start, read_index
from ..errors import BaseMissing, InvalidFrame
from ..model.files.entries import ChunkUse
from ..model.files.expansion import check_frames
from ..model.files.segments import CHUNK_BYTES
from ..model.inputs import Locate
from ..model.sketch import make_sketch
from ..model.sketch_file import Sketches
from ..reading.chunk_reader import Buffer, ChunkReader
from ..reading.frame_decoding import decode_frame

# A frame may be this much larger than its chunk (codecs.frame.RAW_OVERHEAD_BYTES and reserve).
_MAX_FRAME_BYTES = CHUNK_BYTES + 4096
_READ_BYTES = 4 * 1024 * 1024

LowestLevels = Callable[[Collection[bytes]], dict[bytes, int]]


def check_pack(
    path: Path,
    name: str,
    locate: Locate,
    lowest_levels: LowestLevels,
    reader: ChunkReader,
    *,
    bounded: bool = False,
) -> tuple[list[PackEntry], Sketches]:
    """Returns the entries of the pack in the file `path`, everything about them verified, and the
    sketches of what they decode to.

    The file's BLAKE3 is `name`; every frame decodes to the digest, size, codec and inputs its entry
    states; an input is in the vault and has a frame of a lower level, there or in this pack.
    `locate` finds chunks of the vault, `lowest_levels` those of their frames, `reader` reads
    them. Raises InvalidFrame naming what is wrong; with `bounded`, TooExpensive before anything is
    decoded.
    """
    sketches: Sketches = {}
    check_name(path, name)
    with path.open("rb") as file:
        size = path.stat().st_size
        entries = _read_entries(file, size)
        _check_lengths(entries)
        if bounded and any(entry.derived for entry in entries):
            raise InvalidFrame("derived frames are made by servers alone", "push again")
        places = _find_inputs(entries, locate, lowest_levels)
        if bounded:
            _check_distinct(entries)
            check_frames(entries, size, places, locate)
        # In the order of the frames, so that the reader can fetch ahead, many at a time.
        needed = (digest for entry in entries for digest in entry.inputs)
        inputs = reader.read(ChunkUse(d, 0, places[d].raw_bytes, "U8") for d in needed)
        for entry in entries:
            raw = _check_frame(file, entry, [next(inputs) for _ in entry.inputs])
            sketches[entry.digest] = make_sketch(raw, BY_ID[entry.dtype].name)
    return entries, sketches


def check_name(path: Path, name: str) -> None:
    """Raises InvalidFrame unless the BLAKE3 of the file `path` is `name`."""
    with path.open("rb") as file:
        if _hash_file(file) != name:
            raise InvalidFrame(f"pack does not hash to its name {name}", "push again")


def read_entries(path: Path) -> list[PackEntry]:
    """Returns what the index of the pack in the file `path` says, which need not be true. Raises
    InvalidFrame where there is none."""
    with path.open("rb") as file:
        return _read_entries(file, path.stat().st_size)


def _hash_file(file: BinaryIO) -> str:
    hasher = blake3(max_threads=many_threads())
    while data := file.read(_READ_BYTES):
        check_cancelled()
        hasher.update(data)
    return hasher.hexdigest()


def _read_entries(file: BinaryIO, size: int) -> list[PackEntry]:
    def read(start: int, stop: int) -> bytes:
        file.seek(start)
        return file.read(stop - start)

    try:
        entries = read_index(read, size)
        check_start(read)
        return entries
    except StoreError as error:
        raise InvalidFrame(f"pack is not well-formed: {error}") from error


def _check_lengths(entries: list[PackEntry]) -> None:
    """Raises InvalidFrame for chunks that are too long."""
    for entry in entries:
        if entry.frame_bytes > _MAX_FRAME_BYTES or entry.raw_bytes > CHUNK_BYTES:
            raise InvalidFrame(f"chunk {entry.digest.hex()} is larger than {CHUNK_BYTES} bytes")


def _check_distinct(entries: list[PackEntry]) -> None:
    """Raises InvalidFrame for a chunk that comes twice: only copies made here do."""
    seen: set[bytes] = set()
    for entry in entries:
        if entry.digest in seen:
            raise InvalidFrame(f"pack holds chunk {entry.digest.hex()} twice")
        seen.add(entry.digest)


def _find_inputs(
    entries: list[PackEntry], locate: Locate, lowest_levels: LowestLevels
) -> dict[bytes, Location]:
    """Returns where the inputs of frames are; raises InvalidFrame unless each is here and may be
    one."""
    inputs = {digest for entry in entries for digest in entry.inputs}
    if not inputs:
        return {}
    places, levels = locate(inputs), lowest_levels(inputs)
    for entry in entries:
        levels[entry.digest] = min(entry.level, levels.get(entry.digest, entry.level))
    for entry in entries:
        kind = "derived frame" if entry.derived else "delta"
        for digest in entry.inputs:
            if digest not in places:
                missing = f"the base {digest.hex()} of a {kind} is not in this vault"
                raise BaseMissing(missing, "push again")
            if levels[digest] >= entry.level:
                found = f"it has level {levels[digest]}, the {kind} level {entry.level}"
                raise InvalidFrame(f"the base {digest.hex()} of a {kind} needs too much: {found}")
    return places


def _check_frame(file: BinaryIO, entry: PackEntry, inputs: Sequence[Buffer]) -> memoryview:
    file.seek(entry.offset)
    frame = file.read(entry.frame_bytes)
    try:
        header = parse_header(frame)
        if _facts(header) != _entry_facts(entry):
            raise InvalidFrame(f"frame of chunk {entry.digest.hex()} is not what the index says")
        if inputs and header.base_bytes not in (None, len(inputs[0])):
            # Who reads such a delta asks for a base of its own length.
            raise InvalidFrame(f"the base of chunk {entry.digest.hex()} has another length")
        return decode_frame(frame, header, inputs)
    except FrameError as error:
        raise InvalidFrame(
            f"frame does not decode to chunk {entry.digest.hex()}: {error}", "push again"
        ) from error


def _facts(header: FrameHeader) -> tuple[object, ...]:
    return (
        header.digest,
        header.raw_bytes,
        CODEC_IDS[header.codec],
        find_dtype(header.dtype).id,
        header.inputs,
        header.level,
    )


def _entry_facts(entry: PackEntry) -> tuple[object, ...]:
    facts = (entry.digest, entry.raw_bytes, entry.codec, entry.dtype)
    return (*facts, entry.inputs, entry.level)
