"""Arrays that kernels read and write: one type for inputs, and scratch that every thread keeps.

Numba compiles a kernel anew for every combination of argument types, and a read-only array is
another type than a writable one. So whatever a kernel only reads is passed read-only, wherever it
comes from.
"""

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
