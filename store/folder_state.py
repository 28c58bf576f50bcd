"""The state of a vault in a folder, told without opening it: equal states hold the same.

SQLite notes in no place that another process could read cheaply that something was committed; but
who commits writes to the database or its log. A log that is written over keeps its size, so times
count, and where they are so new that one more change may leave them as they are, nothing is said.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from blake3 import blake3

from .object_keys import JOURNAL, MARKER

# A step of the clock that file systems note times by is 10 ms at most.
_TICK_NS = 20_000_000


def describe_folder(objects: Path, database: Path) -> str | None:
    """Returns the state of a catalogue of SQLite in the file `database` with the journal of the
    store in `objects`; None where one of them is not there, or changes at this moment."""
    try:
        state = _describe(objects, database)
        if state is None:
            time.sleep(_TICK_NS / 1e9)
            state = _describe(objects, database)
        return state
    except OSError:
        return None


def _describe(objects: Path, database: Path) -> str | None:
    told = blake3()
    for path in (objects / MARKER, database, Path(f"{database}-wal")):
        stamp = _stamp(path)
        if max(stamp[2:]) >= time.time_ns() - _TICK_NS:
            return None
        told.update(f"{stamp}\n".encode())
    # What others have written to the store, by another catalogue, too.
    for name in sorted(os.listdir(objects / JOURNAL)):
        told.update(f"{name}\n".encode())
    return told.hexdigest()


def _stamp(path: Path) -> tuple[int, ...]:
    """Returns what a file is recognised by, zeros where it is not there."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
