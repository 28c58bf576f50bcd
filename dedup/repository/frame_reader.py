"""Reads frames out of packs, few requests for many frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from ...store.backend import Backend
from ...store.cancel import carry, check_cancelled
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.tables.rows import Location
from ...store.errors import NotFound
from ...store.object_keys import pack_key
from ..errors import ChunksMissing
from .journal.replay import catch_up

# Frames of one window are in memory together; the same bound as a reader's batch of raw bytes.
WINDOW_BYTES = 32 * 1024 * 1024

# On S3 a request spends most of its time waiting; connections are kept for as many.
_READS_AT_ONCE = 16

# Packs whose frames are replaced go at once: of a window that is read meanwhile, one after another.
MOST_MOVES = 8

# Reading a gap of this size costs less than another request (about 10 ms at 100 MB/s from S3).
_MAX_GAP_BYTES = 1024 * 1024


def read_frames(
    backend: Backend, catalogue: Catalogue, digests: Sequence[bytes]
) -> Iterator[bytes]:
    """Yields the frames of `digests` in that order; raises ChunksMissing for unknown ones."""
    places = catalogue.locate(digests)
    absent = [d for d in digests if d not in places]
    if absent:
        raise ChunksMissing(f"{len(absent)} chunks are not in this vault, as {absent[0].hex()}")
    for window in _windows([places[d] for d in digests]):
        check_cancelled()
        frames = _read_moved(backend, catalogue, window)
        yield from (frames[place.digest] for place in window)


def _read_moved(
    backend: Backend, catalogue: Catalogue, window: list[Location]
) -> dict[bytes, bytes]:
    """Reads a window; frames that were moved to another pack meanwhile are found there."""
    for _ in range(MOST_MOVES):
        try:
            return _read_window(backend, window)
        except NotFound:
            catch_up(backend, catalogue)
            places = catalogue.locate([place.digest for place in window])
            if any(place.digest not in places for place in window):
                raise ChunksMissing("chunks were collected while they were read") from None
            moved = [places[place.digest] for place in window]
            if moved == window:
                raise
            window = moved
    return _read_window(backend, window)


def _windows(places: list[Location]) -> Iterator[list[Location]]:
    window: list[Location] = []
    total = 0
    for place in places:
        if window and total + place.frame_bytes > WINDOW_BYTES:
            yield window
            window, total = [], 0
        window.append(place)
        total += place.frame_bytes
    if window:
        yield window


def _read_window(backend: Backend, window: list[Location]) -> dict[bytes, bytes]:
    in_place = sorted(set(window), key=lambda p: (p.pack, p.offset))
    packs = groupby(in_place, key=lambda p: p.pack)
    runs = [run for _, places in packs for run in _runs(list(places))]
    if len(runs) == 1:
        return dict(_read_run(backend, runs[0]))
    with ThreadPoolExecutor(min(len(runs), _READS_AT_ONCE), "read") as pool:
        read = [pool.submit(carry(_read_run), backend, run) for run in runs]
        return {digest: frame for frames in read for digest, frame in frames.result()}


def _read_run(backend: Backend, run: list[Location]) -> list[tuple[bytes, bytes]]:
    start, stop = run[0].offset, run[-1].offset + run[-1].frame_bytes
    data = backend.get(pack_key(run[0].pack), start, stop)
    if len(run) == 1:
        # Of large chunks all runs are so, and a copy of 32 MiB costs more than its reading.
        return [(run[0].digest, data)]
    view = memoryview(data)
    return [
        (place.digest, bytes(view[place.offset - start :][: place.frame_bytes])) for place in run
    ]


def _runs(places: list[Location]) -> Iterator[list[Location]]:
    """Splits the places of one pack, sorted by offset, into runs worth one request each."""
    run = places[:1]
    for place in places[1:]:
        if place.offset - (run[-1].offset + run[-1].frame_bytes) > _MAX_GAP_BYTES:
            yield run
            run = []
        run.append(place)
    yield run
