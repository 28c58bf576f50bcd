"""What a push reads the bytes of a file from."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, Protocol


class BinaryFile(Protocol):
    """What is needed of a binary file to send its chunks."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves to a byte."""
        ...

    def readinto(self, buffer: memoryview, /) -> int:
        """Fills memory; returns how many bytes there were."""
        ...


class Source(Protocol):
    """What the bytes of a file are read from: a path, or what opens as one does."""

    def open(self, mode: Literal["rb"]) -> AbstractContextManager[BinaryFile]:
        """Opens it for reading."""
        ...
