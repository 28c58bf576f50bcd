"""Files that are taken apart: on a disk, or, where they are short, in memory.

To make a file on a disk, open it four times and remove it costs a hundred times what hashing one of
200 bytes does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Literal

SHORT_BYTES = 64 << 10
"""Up to this length a file is read at once, which costs a third."""

# Of one request, and of a push.
_MOST_HELD_BYTES = 16 << 20
_MOST_READ_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, eq=False)
class HeldFile:
    """A file in memory, where the path of one could be, and whether its owner may execute it."""

    data: bytes = field(repr=False)
    executable: bool = False

    def open(self, mode: Literal["rb"]) -> BytesIO:
        """Opens it for reading."""
        assert mode == "rb"
        return BytesIO(self.data)


File = Path | HeldFile


def file_size(file: File) -> int:
    """Returns the bytes of a file. Raises OSError."""
    return len(file.data) if isinstance(file, HeldFile) else file.stat().st_size


def hold_short(files: Mapping[str, Path]) -> dict[str, File]:
    """Reads short files into memory while there is room. Others stay as they are, and so do those
    that cannot be read, or change meanwhile: whoever takes them apart says so."""
    left = _MOST_READ_BYTES
    found: dict[str, File] = {}
    for name, path in files.items():
        try:
            held = _read_short(path, min(left, SHORT_BYTES))
        except OSError:
            held = None
        if held is not None:
            left -= len(held.data)
        found[name] = held or path
    return found


def _read_short(path: Path, most: int) -> HeldFile | None:
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        before = os.fstat(opened)
        if before.st_size > most:
            return None
        data = os.read(opened, before.st_size + 1)
        after = os.fstat(opened)
    finally:
        os.close(opened)
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    if not same or len(data) != before.st_size:
        return None
    return HeldFile(data, bool(before.st_mode & stat.S_IXUSR))


class Holder:
    """Keeps files that arrive: short ones in memory while there is room, others in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left = _MOST_HELD_BYTES
        self._written = 0

    def keep(self, data: bytes) -> File:
        """Returns a file of these bytes. Raises OSError."""
        if len(data) <= SHORT_BYTES and len(data) <= self._left:
            self._left -= len(data)
            return HeldFile(data)
        self._written += 1
        path = self._folder / f"held-{self._written}"
        path.write_bytes(data)
        return path
