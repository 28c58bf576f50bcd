"""Reads parts of frames out of packs: their headers once, and of their bodies what is asked for."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from ...codecs.errors import CorruptFrame, FrameError
from ...codecs.frame import FrameHeader, parse_header
from ...codecs.ranges import find_extent, index_raw
from ...store.backend import Backend
from ...store.cancel import check_cancelled
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.tables.rows import Location
from ...store.errors import NotFound
from ...store.object_keys import pack_key
from ..errors import ChunksMissing, Corrupt
from ..reading.frame_parts import FramePart
from .frame_reader import MOST_MOVES
from .journal.replay import catch_up

# A header with 16 blocks has 200 bytes; one with a long row map is read with all of its frame.
_FRONT_BYTES = 4096

# A header takes up to 1 KiB for the pieces of a raw frame: those of 128 GiB.
_HEADERS_KEPT = 4096


class FrameParts:
    """Reads parts of the frames of a vault; safe to use from several threads.

    Keeps the headers of the frames that were read last. A raw frame has one checksum for all of it:
    it is read as a whole the first time, and the checksums of its pieces are kept, so that each
    further part takes only its own bytes.
    """

    def __init__(self, backend: Backend, catalogue: Catalogue) -> None:
        self._backend = backend
        self._catalogue = catalogue
        self._lock = Lock()
        self._headers: OrderedDict[Location, FrameHeader] = OrderedDict()

    def fetch(self, digest: bytes, start: int, stop: int) -> FramePart:
        """Returns the part of a chunk's frame that its raw bytes [start, stop) need. Raises
        ChunksMissing, Corrupt."""
        check_cancelled()
        place = self._locate(digest)
        try:
            return self._read(place, start, stop)
        except FrameError as error:
            raise Corrupt(f"frame of chunk {digest.hex()} is damaged: {error}") from error

    def _locate(self, digest: bytes) -> Location:
        place = self._catalogue.locate([digest]).get(digest)
        if place is None:
            raise ChunksMissing(f"chunk {digest.hex()} is not in this vault")
        return place

    def _read(self, place: Location, start: int, stop: int) -> FramePart:
        """Reads a part; of a frame that was moved to another pack meanwhile, there."""
        for _ in range(MOST_MOVES):
            try:
                return self._read_at(place, start, stop)
            except NotFound:
                catch_up(self._backend, self._catalogue)
                moved = self._locate(place.digest)
                if moved == place:
                    raise
                place = moved
        return self._read_at(place, start, stop)

    def _read_at(self, place: Location, start: int, stop: int) -> FramePart:
        header, body = self._known(place), None
        if header is None:
            header, body = self._read_header(place)
        # The header says what there is; whether that is the chunk asked for, who asks looks.
        stop = min(stop, header.raw_bytes)
        start = min(start, stop)
        first, last = find_extent(header, start, stop)
        if body is None:
            data = self._get(place, first, last)
        else:
            data = body[first - header.body_offset : last - header.body_offset]
        return FramePart(header, data, start, stop)

    def _known(self, place: Location) -> FrameHeader | None:
        with self._lock:
            header = self._headers.get(place)
            if header is not None:
                self._headers.move_to_end(place)
            return header

    def _read_header(self, place: Location) -> tuple[FrameHeader, bytes | None]:
        """Returns the header of a frame, and its body where that had to be read for it."""
        front = self._get(place, 0, min(_FRONT_BYTES, place.frame_bytes))
        try:
            header = parse_header(front, place.frame_bytes)
        except CorruptFrame:
            header = parse_header(self._get(place, 0, place.frame_bytes))
        body = None
        if header.codec == "raw":
            body = self._get(place, header.body_offset, place.frame_bytes)
            header = index_raw(header, body)
        with self._lock:
            self._headers[place] = header
            while len(self._headers) > _HEADERS_KEPT:
                self._headers.popitem(last=False)
        return header, body

    def _get(self, place: Location, first: int, last: int) -> bytes:
        if first == last:
            return b""
        return self._backend.get(pack_key(place.pack), place.offset + first, place.offset + last)
