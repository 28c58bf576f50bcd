"""Reads a pack from its first byte to its last and says what in it is not right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from blake3 import blake3

from ...codecs.errors import FrameError
from ...codecs.frame import parse_header
from ...store.backend import Backend
from ...store.catalogue.damage import WHOLE_PACK
from ...store.catalogue.tables.rows import Location
from ...store.errors import CorruptObject, NotFound, StoreError
from ...store.object_keys import pack_key
from ...store.packs import check_start, read_index
from ..errors import Corrupt, Missing
from ..reading.frame_decoding import Buffer, decode_frame

# Read at a time; one frame alone may be twice as long.
READ_BYTES = 16 * 1024 * 1024

ReadInput = Callable[[bytes, int], Buffer]
# Offset, digest and what is wrong with the frame there; at WHOLE_PACK it is the rest of the pack.
Wrong = tuple[int, bytes, str]


@dataclass(frozen=True, slots=True)
class PackScan:
    """What is wrong in a pack, and how many frames could not be judged as an input is damaged."""

    wrong: list[Wrong]
    frames: int
    unjudged: int


def scan_pack(
    backend: Backend,
    name: str,
    places: Sequence[Location],
    read_input: ReadInput,
    seen: Callable[[int], None],
) -> PackScan:
    """Reads all of a pack; `places` is what the catalogue says lies in it, in order of offset.

    Every frame is decoded and hashed; `read_input(digest, below)` gives inputs, whose frames have
    levels below `below`, and raises Corrupt or Missing where one cannot be read. `seen` is told of
    bytes as they are read. Raises Unavailable and what else says nothing about the pack.
    """
    try:
        size = backend.size(pack_key(name))
    except NotFound:
        return PackScan([(p.offset, p.digest, "its pack is gone") for p in places], len(places), 0)
    hasher = blake3()
    wrong: list[Wrong] = []
    unjudged = 0
    for place, data in _read(backend, name, size, places, seen):
        hasher.update(data)
        if place is None:
            continue
        verdict = _judge(place, data, read_input)
        if verdict is None:
            unjudged += 1
        elif verdict:
            wrong.append((place.offset, place.digest, verdict))
    rest = _judge_rest(backend, name, size, places)
    if not rest and not wrong and hasher.hexdigest() != name:
        rest = "its bytes do not hash to its name"
    if rest:
        wrong.insert(0, (WHOLE_PACK, bytes(32), rest))
    return PackScan(wrong, len(places), unjudged)


def is_right(backend: Backend, place: Location, read_input: ReadInput) -> bool:
    """Says whether one frame can be read and is what it should be."""
    try:
        data = backend.get(pack_key(place.pack), place.offset, place.offset + place.frame_bytes)
    except (NotFound, CorruptObject):
        return False
    return _judge(place, data, read_input) == ""


def _read(
    backend: Backend,
    name: str,
    size: int,
    places: Sequence[Location],
    seen: Callable[[int], None],
) -> Iterator[tuple[Location | None, bytes | memoryview]]:
    """Yields all bytes of a pack in order, those of a frame together and with its place."""
    for window in _windows(_pieces(size, places)):
        start, stop = window[0][0], min(window[-1][1], size)
        try:
            data = memoryview(backend.get(pack_key(name), start, stop))
        except CorruptObject:
            data = memoryview(_get_pieces(backend, name, start, stop, window))
        seen(len(data))
        for first, last, place in window:
            yield place, data[first - start : last - start]


def _get_pieces(
    backend: Backend,
    name: str,
    start: int,
    stop: int,
    window: list[tuple[int, int, Location | None]],
) -> bytes:
    """Reads a window whose bytes fail the store's own checksum piece by piece; zeros stand for
    those that fail it again, and will be found to be no frame."""
    data = bytearray(stop - start)
    for first, last, _ in window:
        with suppress(CorruptObject):
            data[first - start : last - start] = backend.get(pack_key(name), first, min(last, stop))
    return bytes(data)


def _pieces(size: int, places: Sequence[Location]) -> Iterator[tuple[int, int, Location | None]]:
    """Cuts a pack into its frames and what lies between them, all of it in order."""
    at = 0
    for place in places:
        if place.offset > at:
            yield at, place.offset, None
        at = max(at, place.offset + place.frame_bytes)
        yield place.offset, place.offset + place.frame_bytes, place
    if at < size:
        yield at, size, None


def _windows(
    pieces: Iterator[tuple[int, int, Location | None]],
) -> Iterator[list[tuple[int, int, Location | None]]]:
    window: list[tuple[int, int, Location | None]] = []
    for piece in pieces:
        if window and piece[1] - window[0][0] > READ_BYTES:
            yield window
            window = []
        window.append(piece)
    if window:
        yield window


def _judge(place: Location, data: Buffer, read_input: ReadInput) -> str | None:
    """Says what is wrong with a frame: "" for nothing, None where an input of it cannot be read."""
    try:
        header = parse_header(data)
        facts = (header.digest, header.raw_bytes, header.inputs, header.level)
        if facts != (place.digest, place.raw_bytes, place.inputs, place.level):
            return "the frame of another chunk"
        decode_frame(data, header, [read_input(d, place.level) for d in place.inputs])
    except FrameError as error:
        return str(error) or "does not decode"
    except (Corrupt, Missing):
        return None
    return ""


def _judge_rest(backend: Backend, name: str, size: int, places: Sequence[Location]) -> str:
    def read(start: int, stop: int) -> bytes:
        return backend.get(pack_key(name), start, stop)

    try:
        entries = read_index(read, size)
        check_start(read)
    except (CorruptObject, NotFound) as error:
        return str(error)
    except StoreError:
        raise
    listed = {(e.digest, e.offset, e.frame_bytes) for e in entries}
    if any((p.digest, p.offset, p.frame_bytes) not in listed for p in places):
        return "its index does not list what the catalogue knows of it"
    return ""
