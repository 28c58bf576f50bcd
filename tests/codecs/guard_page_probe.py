"""Decodes and encodes at the very edge of mapped memory on every path: run by ``test_guard_pages``.

A read or write outside its buffer ends the process: the pages around the buffers are not there.
"""

import ctypes
import mmap

import numpy as np

from weightvault.codecs.buffers import freeze
from weightvault.codecs.errors import CorruptFrame
from weightvault.codecs.prefix import prefix
from weightvault.codecs.rans import kernels, rans
from weightvault.codecs.simd import paths

PAGE = mmap.PAGESIZE


def at_the_end_of_a_page(size: int, kept: list[mmap.mmap]) -> np.ndarray:
    """Returns (size,) uint8 right before a page that must not be touched."""
    pages = -(-size // PAGE)
    area = mmap.mmap(-1, (pages + 1) * PAGE)
    kept.append(area)
    whole = np.frombuffer(area, np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    address = whole.ctypes.data + pages * PAGE
    if protect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    return whole[pages * PAGE - size : pages * PAGE]


def edge_copy(data: np.ndarray | bytes, kept: list[mmap.mmap]) -> np.ndarray:
    """Returns a read-only copy of ``data`` at the edge, as uint8."""
    array = np.frombuffer(data, np.uint8)
    edge = at_the_end_of_a_page(array.size, kept)
    edge[:] = array
    return freeze(edge)


def probe(count: int, kept: list[mmap.mmap]) -> None:
    """Codes ``count`` symbols in every way with all buffers at the edge, whole and truncated."""
    rng = np.random.default_rng(count)
    symbols = edge_copy(np.clip(rng.normal(9, 2, count), 0, 255).astype(np.uint8), kept)
    side = edge_copy(rng.integers(0, 7, count, np.uint8), kept)
    tables = rans.survey(symbols)[0]
    plain = b"".join(rans.encode_plane(symbols, tables))
    tables = rans.choose_tables(rans.count_contexts(symbols, side, 7))
    mixed = b"".join(rans.encode_contexts(symbols, side, tables))
    segments = rans.count_segments(symbols, prefix.SEGMENT_LOG2)
    short = b"".join(prefix.encode_plane(symbols, prefix.choose_plane_codes(segments)))
    long = b"".join(prefix.encode_segments(symbols, prefix.choose_row_codes(segments)))
    codes = prefix.choose_row_codes(rans.count_contexts(symbols, side, 7))
    rows = b"".join(prefix.encode_rows(symbols, side, codes))
    out = at_the_end_of_a_page(count, kept)
    words = at_the_end_of_a_page(2 * count, kept).view(np.uint16)
    ways = (
        (plain, lambda source: rans.decode_plane(source, out)),
        (plain, lambda source: rans.decode_pair(source, side, words)),
        (mixed, lambda source: rans.decode_contexts(source, side, 7, out)),
        (short, lambda source: prefix.decode_plane(source, out)),
        (short, lambda source: prefix.decode_pair(source, side, words)),
        (long, lambda source: prefix.decode_segments(source, out)),
        (long, lambda source: prefix.decode_segment_pair(source, side, words)),
        (rows, lambda source: prefix.decode_rows(source, side, 7, out)),
    )
    for coded, decode in ways:
        for size in (len(coded), len(coded) - 2, len(coded) // 2, min(len(coded), 257)):
            out[:] = 0
            try:
                decode(edge_copy(coded[:size], kept))
            except CorruptFrame:
                assert size < len(coded)
                continue
            assert size == len(coded)
            assert np.array_equal(words >> 7 & 255 if not out.any() else out, symbols)


def main() -> None:
    """Probes every path that this machine has."""
    assert kernels.WRITE_SLACK == 16
    kept: list[mmap.mmap] = []
    for path in paths.available_paths():
        paths.force_path(path)
        for count in (1, 64, 65, 640, 4096, 5000, 20_000):
            probe(count, kept)
    print("sound", *paths.available_paths())


if __name__ == "__main__":
    main()
