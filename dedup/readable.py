"""What is read of a file to take it apart: anything that seeks and reads."""

from typing import Protocol


class ReadableFile(Protocol):
    """What is needed of a binary file."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves to a byte."""
        ...

    def read(self, size: int = -1, /) -> bytes:
        """Reads up to `size` bytes."""
        ...
