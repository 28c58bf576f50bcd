"""Arrays that kernels read and write: one type for inputs, and scratch that every thread keeps.

Numba compiles a kernel once for every combination of argument types, and a read-only array is
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

_HUGE_PAGE_BYTES = 1 << 21
_local = threading.local()


def view_bytes(buffer: Any) -> Bytes:
    """Returns any C-contiguous buffer as read-only (n,) uint8 without copying it.

    Raises ValueError for an array that is not C-contiguous.
    """
    if isinstance(buffer, np.ndarray) and not buffer.flags.c_contiguous:
        raise ValueError("the buffer is not C-contiguous")
    return freeze(np.frombuffer(buffer, np.uint8))


def view_room(buffer: Any, *inputs: Bytes | None) -> Bytes:
    """Returns a writable C-contiguous buffer as (n,) uint8 without copying it.

    Raises ValueError for one that is read-only, not C-contiguous, or shares memory with any of
    ``inputs``, which are read while it is written.
    """
    is_array = isinstance(buffer, np.ndarray)
    if not (buffer.flags.c_contiguous if is_array else memoryview(buffer).c_contiguous):
        raise ValueError("out is not C-contiguous")
    room = np.frombuffer(buffer, np.uint8)
    if not room.flags.writeable:
        raise ValueError("out is read-only")
    if any(other is not None and np.may_share_memory(room, other) for other in inputs):
        raise ValueError("out shares memory with what is read")
    return room


def new_memory(size: int) -> Bytes:
    """Returns (size,) uint8, uninitialised; large memory begins where a huge page does.

    NumPy asks for huge pages, but up to the first of them the system hands out 4 KiB at a time; and
    two threads that write different blocks do not meet in one page. Whole MiniLM in bf16 decodes in
    8.8 ms so, in 9.3 without; twice as much on two threads in 9.7, in 10.6 without.
    """
    if size < 2 * _HUGE_PAGE_BYTES:
        return np.empty(size, np.uint8)
    memory = np.empty(size + _HUGE_PAGE_BYTES, np.uint8)
    start = -memory.ctypes.data % _HUGE_PAGE_BYTES
    return memory[start : start + size]


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


class NewBytes:
    """A ``bytes`` that threads fill side by side before anyone else sees it, and that may turn out
    shorter than it began: ``view`` is (size,) uint8, uninitialised, until ``finish``.

    Made by the functions that CPython offers for this, and in huge pages where the system has
    them.
    """

    def __init__(self, size: int) -> None:
        self._object = ctypes.c_void_p()
        self._object.value = _new_bytes(None, size)
        self._size = size
        # The data ends the object, and a terminating zero is counted in its basic size.
        address = (self._object.value or 0) + bytes.__basicsize__ - 1
        if size >= _HUGE_PAGE_BYTES:
            _advise_huge_pages(address, size)
        self.view: Bytes = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def finish(self, size: int) -> bytes:
        """Returns the first ``size`` bytes, at least one; the view is void from here on."""
        del self.view
        if size != self._size:
            _resize_bytes(ctypes.byref(self._object), size)
        return ctypes.cast(self._object, ctypes.py_object).value

    def __del__(self) -> None:
        """Gives up the reference held here: what ``finish`` returned has its own."""
        _drop(self._object)


class KeptBytes:
    """Memory of the caller, to be filled like ``NewBytes``: ``view`` is (n,) uint8."""

    def __init__(self, room: Bytes) -> None:
        self.view = room

    def finish(self, size: int) -> memoryview:
        """Returns the first ``size`` bytes, where they are."""
        return self.view[:size].data


def make_room(size: int, out: Bytes | None) -> NewBytes | KeptBytes:
    """Returns ``out``, (size,) uint8 or more, or new bytes for None, as something to fill."""
    return NewBytes(size) if out is None else KeptBytes(out)


_new_bytes = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)
_resize_bytes = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.c_ssize_t)(
    ("_PyBytes_Resize", ctypes.pythonapi)
)
_drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(("Py_DecRef", ctypes.pythonapi))


def _advise_huge_pages(address: int, size: int) -> None:
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return
    start = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    length = max(0, address + size - start)
    # Only advice: where it is refused the pages are small, and that is all.
    libc = ctypes.CDLL(None)
    libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_HUGEPAGE)
