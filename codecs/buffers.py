"""Arrays that kernels read and write: one type for inputs, and scratch that every thread keeps.

Numba compiles a kernel anew for every combination of argument types, and a read-only array is
another type than a writable one. So whatever a kernel only reads is passed read-only, wherever it
comes from.
"""

import ctypes
import mmap
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Words = NDArray[Any]
"""Elements of one tensor as unsigned integers of 1, 2, 4 or 8 bytes."""

_local = threading.local()


def view_bytes(buffer: Any) -> Bytes:
    """Returns any C-contiguous buffer as read-only (n,) uint8 without copying it.

    Raises ValueError for an array that is not C-contiguous.
    """
    if isinstance(buffer, np.ndarray) and not buffer.flags.c_contiguous:
        raise ValueError("the buffer is not C-contiguous")
    return freeze(np.frombuffer(buffer, np.uint8))


def freeze(array: NDArray[Any]) -> NDArray[Any]:
    """Returns a read-only view of ``array``."""
    view = array.view()
    view.flags.writeable = False
    return view


def scratch(name: str, size: int, dtype: type[np.generic]) -> NDArray[Any]:
    """Returns (size,) of uninitialised memory that this thread keeps under ``name``.

    It is overwritten by the next call with that name, so it must not outlive the coding of one
    stream.
    """
    kept = _local.__dict__.get(name)
    if kept is None or kept.size < size:
        kept = _local.__dict__[name] = np.empty(size, dtype)
    return kept[:size]


def allocate_bytes(size: int) -> tuple[bytes, Bytes]:
    """Returns a new ``bytes`` of that size and a writable view of it, to fill before anyone else
    sees it.

    Threads can so write a large result side by side, into huge pages where the system has them.
    """
    result = bytes(size)
    # In CPython the data ends the object, and a terminating zero is counted in its basic size.
    address = id(result) + bytes.__basicsize__ - 1
    _advise_huge_pages(address, size)
    return result, np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


def _advise_huge_pages(address: int, size: int) -> None:
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return
    start = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    length = max(0, address + size - start)
    # Only advice: where it is refused the pages are small, and that is all.
    libc = ctypes.CDLL(None)
    libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_HUGEPAGE)
