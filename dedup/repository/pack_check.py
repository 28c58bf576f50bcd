"""Checks a pack from outside before the vault refers to any of it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from ...codecs.dtypes import BY_ID, find_dtype
from ...codecs.errors import FrameError
from ...codecs.frame import CODEC_IDS, FrameHeader, parse_header
from ...store.cancel import check_cancelled
from ...store.catalogue.tables.rows import Location
from ...store.errors import StoreError
from ...store.packs import PackEntry, check_start, read_index
from ..errors import InvalidFrame
from ..model.files.entries import ChunkUse
from ..model.files.expansion import Locate, check_frames
from ..model.files.segments import CHUNK_BYTES
from ..model.sketch import make_sketch
from ..model.sketch_file import Sketches
from ..reading.buffer_pool import BUFFERS
from ..reading.chunk_reader import Buffer, ChunkReader
from ..reading.timed_codecs import decode_tensor

# A frame may be this much larger than its chunk (codecs.frame.RAW_OVERHEAD_BYTES and reserve).
_MAX_FRAME_BYTES = CHUNK_BYTES + 4096
_READ_BYTES = 4 * 1024 * 1024

StandAlone = Callable[[Collection[bytes]], set[bytes]]


def check_pack(
    path: Path,
    name: str,
    locate: Locate,
    stand_alone: StandAlone,
    reader: ChunkReader,
    *,
    bounded: bool = False,
) -> tuple[list[PackEntry], Sketches]:
    """Returns the entries of the pack in the file `path`, everything about them verified, and the
    sketches of what they decode to.

    The file's BLAKE3 is `name`; every frame decodes to the digest, size, codec and base its entry
    states; a base is in the vault and has a frame of its own, there or in this pack. `locate`
    finds chunks of the vault, `stand_alone` says which have frames of their own, `reader` reads
    them. Raises InvalidFrame naming what is wrong; with `bounded`, TooExpensive before anything is
    decoded.
    """
    sketches: Sketches = {}
    with path.open("rb") as file:
        if _hash_file(file) != name:
            raise InvalidFrame(f"pack does not hash to its name {name}", "push again")
        size = path.stat().st_size
        entries = _read_entries(file, size)
        _check_lengths(entries)
        places = _find_bases(entries, locate, stand_alone)
        if bounded:
            _check_distinct(entries)
            check_frames(entries, size, places)
        # In the order of the deltas, so that the reader can fetch ahead, many at a time.
        deltas = (e.base_digest for e in entries if e.base_digest is not None)
        bases = reader.read(ChunkUse(d, 0, places[d].raw_bytes, "U8") for d in deltas)
        for entry in entries:
            base = None if entry.base_digest is None else next(bases)
            raw = _check_frame(file, entry, base)
            sketches[entry.digest] = make_sketch(raw, BY_ID[entry.dtype].name)
    return entries, sketches


def read_entries(path: Path) -> list[PackEntry]:
    """Returns what the index of the pack in the file `path` says, which need not be true. Raises
    InvalidFrame where there is none."""
    with path.open("rb") as file:
        return _read_entries(file, path.stat().st_size)


def _hash_file(file: BinaryIO) -> str:
    hasher = blake3(max_threads=blake3.AUTO)
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


def _find_bases(
    entries: list[PackEntry], locate: Locate, stand_alone: StandAlone
) -> dict[bytes, Location]:
    """Returns where the bases of deltas are; raises InvalidFrame unless each is here and may be
    one."""
    bases = {e.base_digest for e in entries if e.base_digest is not None}
    places = locate(bases) if bases else {}
    alone = {e.digest for e in entries if e.base_digest is None}
    alone |= stand_alone(bases - alone) if bases else set()
    for base in bases:
        if base not in places:
            raise InvalidFrame(f"the base {base.hex()} of a delta is not in this vault")
        if base not in alone:
            raise InvalidFrame(f"the base {base.hex()} is a delta itself; deltas are one deep")
    return places


def _check_frame(file: BinaryIO, entry: PackEntry, base: Buffer | None) -> memoryview:
    file.seek(entry.offset)
    frame = file.read(entry.frame_bytes)
    try:
        header = parse_header(frame)
        if _facts(header) != _entry_facts(entry):
            raise InvalidFrame(f"frame of chunk {entry.digest.hex()} is not what the index says")
        if base is not None and header.base_bytes not in (None, len(base)):
            # Who reads such a delta asks for a base of its own length.
            raise InvalidFrame(f"the base of chunk {entry.digest.hex()} has another length")
        room = BUFFERS.take(header.raw_bytes)
        return decode_tensor(frame, base=base, base_digest=header.base_digest, out=room)
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
        header.is_derived,
    )


def _entry_facts(entry: PackEntry) -> tuple[object, ...]:
    facts = (entry.digest, entry.raw_bytes, entry.codec, entry.dtype)
    return (*facts, entry.inputs, entry.derived)
