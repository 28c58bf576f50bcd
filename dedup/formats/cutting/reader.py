"""What is read of a file to take it apart: anything that seeks and reads."""

import io
from typing import Protocol

from ....store.cancel import check_cancelled

HEAD_BYTES = 512
"""What is read of a file to tell its format."""


class ReadableFile(Protocol):
    """What is needed of a binary file."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves to a byte."""
        ...

    def read(self, size: int = -1, /) -> bytes:
        """Reads up to `size` bytes."""
        ...


class Unreadable(Exception):
    """The bytes break the format they seemed to be in: they are kept as opaque bytes."""


class Work:
    """How much a file may make its readers do, in reads of a few bytes; what lies in it, however
    deep, shares that. Some 2 s of them, several times what the header of any model takes, and of a
    short file no more than it has bytes."""

    READS = 2_000_000
    # What a small file may have besides as many as it has bytes; formats take at most half of them.
    LEAST_READS = 512

    def __init__(self, size: int | None = None) -> None:
        """`size`: the bytes of the file, where they are known."""
        self.left = self.READS if size is None else min(self.READS, self.LEAST_READS + size)

    def spend(self, reads: int) -> None:
        """Counts reads; raises Unreadable once there were more than a file of a model takes."""
        check_cancelled()
        self.left -= reads
        if self.left < 0:
            raise Unreadable("more parts than a file of this format has")


class Window:
    """The `size` bytes of `file` from `start` on, as a file of its own. What it makes readers do
    counts as `work`, or as that of the file."""

    def __init__(self, file: ReadableFile, start: int, size: int, work: Work | None = None) -> None:
        self._file = file
        self.work = work or work_of(file, size)
        self._start = start
        self._size = size
        self._position = 0

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves to a byte of the window; only counted from its start."""
        if whence != io.SEEK_SET:
            raise ValueError("a window is sought in from its start")
        self._position = offset
        return offset

    def read(self, size: int = -1, /) -> bytes:
        """Reads up to `size` bytes, none past the window's end."""
        left = max(0, self._size - self._position)
        count = left if size < 0 else min(size, left)
        self._file.seek(self._start + self._position)
        data = self._file.read(count)
        self._position += len(data)
        return data


def work_of(file: ReadableFile, size: int | None = None) -> Work:
    """Returns what readers of a file of `size` bytes count their reads in: that of the file it lies
    in."""
    return file.work if isinstance(file, Window) else Work(size)


def read_at(file: ReadableFile, start: int, count: int) -> bytes:
    """Returns the `count` bytes from `start` on; raises Unreadable where they are not all there.

    `count` comes from a bound or was checked against the file's size by the caller, so that a
    lying length cannot make this allocate.
    """
    file.seek(start)
    data = file.read(count)
    if len(data) != count:
        raise Unreadable(f"{count} bytes at {start} are not there")
    return data


class Cursor:
    """Reads a file of `size` bytes from `position` on; raises Unreadable past its end.

    Small reads are served from a buffer, because headers are read a few bytes at a time. Raises
    Unreadable, too, after more reads than there is `Work`, however a hostile file makes a reader
    walk.
    """

    # Where headers lie apart, between weights, most of a long read would be weights.
    _LEAST_BUFFER_BYTES = 1 << 12
    _BUFFER_BYTES = 1 << 16
    # What filling the buffer takes, counted in reads from it.
    _FILL_READS = 16

    def __init__(self, file: ReadableFile, size: int, position: int = 0) -> None:
        self.position = position
        self.size = size
        self.work = work_of(file, size)
        self._file = file
        self._buffer = b""
        self._origin = 0
        self._ahead = self._LEAST_BUFFER_BYTES

    def take(self, count: int) -> bytes:
        """Returns the next `count` bytes, which must be there."""
        begin = self.position - self._origin
        end = begin + count
        # What is buffered is there; all else is looked at more closely.
        if begin < 0 or count < 0 or end > len(self._buffer) or self.work.left <= 0:
            if not 0 <= count <= self.size - self.position:
                raise Unreadable(f"{count} bytes at {self.position} are not there")
            self._fill(count)
            begin, end = 0, count
        self.work.left -= 1
        self.position += count
        return self._buffer[begin:end]

    def take_int(self, count: int) -> int:
        """Returns the next `count` bytes as an unsigned little-endian integer."""
        return int.from_bytes(self.take(count), "little")

    def peek(self) -> bytes:
        """Returns what is buffered of the bytes that come next, at least 8 if they are there."""
        begin = self.position - self._origin
        if not 0 <= begin <= len(self._buffer) - 8:
            self._fill(0)
            begin = 0
        return self._buffer[begin:] if begin else self._buffer

    def skip(self, count: int) -> None:
        """Moves on by `count` bytes, which must be there."""
        if not 0 <= count <= self.size - self.position:
            raise Unreadable(f"{count} bytes at {self.position} are not there")
        self.position += count

    def _fill(self, count: int) -> None:
        self.work.spend(self._FILL_READS)
        goes_on = 0 <= self.position - self._origin <= len(self._buffer)
        self._ahead = (
            min(2 * self._ahead, self._BUFFER_BYTES) if goes_on else self._LEAST_BUFFER_BYTES
        )
        wanted = max(count, min(self._ahead, self.size - self.position))
        self._buffer = read_at(self._file, self.position, wanted)
        self._origin = self.position
