"""Files that are taken apart: on a disk, or, where they are short, in memory.

To make a file on a disk, open it four times and remove it costs a hundred times what hashing one of
200 bytes does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Literal

SHORT_BYTES = 64 << 10
"""Up to this length a file is read at once, which costs a third."""

# Of one request.
_MOST_HELD_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, eq=False)
class HeldFile:
    """A file in memory, where the path of one could be."""

    data: bytes = field(repr=False)

    def open(self, mode: Literal["rb"]) -> BytesIO:
        """Opens it for reading."""
        assert mode == "rb"
        return BytesIO(self.data)


File = Path | HeldFile


def file_size(file: File) -> int:
    """Returns the bytes of a file. Raises OSError."""
    return len(file.data) if isinstance(file, HeldFile) else file.stat().st_size


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
