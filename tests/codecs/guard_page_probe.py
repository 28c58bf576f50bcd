"""Decodes and encodes at the very edge of mapped memory on every path: run by ``test_guard_pages``.

A read or write outside its buffer ends the process: the pages around the buffers are not there.
"""

import ctypes
import mmap

import numpy as np

from weightvault.codecs import paths, rans, rans_kernels
from weightvault.codecs.buffers import freeze

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


def probe(count: int, kept: list[mmap.mmap]) -> None:
    """Codes ``count`` symbols with source and result at the edge, whole and truncated."""
    symbols = np.clip(np.random.default_rng(count).normal(9, 2, count), 0, 255).astype(np.uint8)
    edge = at_the_end_of_a_page(count, kept)
    edge[:] = symbols
    tables = rans.choose_tables(rans.count_segments(freeze(edge)))
    coded = np.frombuffer(b"".join(rans.encode_plane(freeze(edge), tables)), np.uint8)
    for size in {coded.size, coded.size - 2, coded.size // 2, rans.LEAST_BYTES + 60} - {0}:
        source = at_the_end_of_a_page(min(size, coded.size), kept)
        source[:] = coded[: source.size]
        out = at_the_end_of_a_page(count, kept)
        try:
            rans.decode_plane(freeze(source), out)
        except rans.CorruptFrame:
            continue
        assert np.array_equal(out, symbols)


def main() -> None:
    """Probes every path that this machine has."""
    assert rans_kernels.WRITE_SLACK == 16
    kept: list[mmap.mmap] = []
    for path in paths.available_paths():
        paths.force_path(path)
        for count in (1, 64, 65, 640, 4096, 5000, 20_000):
            probe(count, kept)
    print("sound", *paths.available_paths())


if __name__ == "__main__":
    main()
