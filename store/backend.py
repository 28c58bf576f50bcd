"""What every place that keeps objects promises, and the one rule for keys."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from .errors import CorruptObject, InvalidKey

BytesLike = bytes | bytearray | memoryview

# S3 allows 1,024 bytes; the rest is room for a bucket prefix.
MAX_KEY_CHARS = 900
# NAME_MAX of every common file system.
MAX_SEGMENT_CHARS = 255
# The local backend keeps unfinished files here, so no backend takes such keys.
RESERVED_SEGMENT = "tmp"

_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing: its key, its size in bytes, when it was last put (Unix seconds)."""

    key: str
    size: int
    modified: float


class Backend(ABC):
    """Keeps objects, immutable byte strings, under keys. Safe to use from several threads.

    This is the whole contract; the implementations add nothing to it.

    Keys are checked by `check_key`; every method raises InvalidKey for a bad one before it does
    anything. No key may also be the folder of another key ("a" beside "a/b"): backends are free
    to refuse the second of them or to keep both.

    Errors: any method may raise Unavailable, the only passing one, after the backend's own
    retries. All others are permanent until somebody acts: AccessDenied, NoSuchStore, StorageFull
    (from puts), NotFound and CorruptObject (from reads), or a plain StoreError.
    """

    @abstractmethod
    def put(self, key: str, data: BytesLike) -> None:
        """Stores `data`, replacing what was there.

        Atomic: readers see the old object or the new one, whole. Durable: on return the object
        survives a power cut. When it raises, the old state stands (after Unavailable: old or new)
        and nothing is left behind that a listing would show.
        """

    @abstractmethod
    def put_file(self, key: str, path: str | os.PathLike[str]) -> None:
        """Stores the content of a local file, as `put` does, in bounded memory.

        The file stays as it is, must not change until this returns, and may be changed or removed
        afterwards. Raises OSError when it cannot be opened.
        """

    @abstractmethod
    def put_new(self, key: str, data: BytesLike) -> bool:
        """Stores `data`, which is short, as `put` does unless there is such an object; says whether
        it did.

        Of several at once one does. Some S3 servers cannot promise that, and an answer that was
        lost may make it say no of what it stored itself: whoever needs to know reads the object.
        """

    @abstractmethod
    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Returns the bytes [start, stop) of an object, to its end without `stop`.

        Never fewer than asked for. Raises NotFound; CorruptObject where the object ends before
        `start` or `stop` (ranges come from indexes, so it has lost bytes) or its bytes fail the
        store's own checksum; ValueError unless 0 <= start <= stop.
        """

    @abstractmethod
    def size(self, key: str) -> int:
        """Returns the size of an object in bytes. Raises NotFound."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Tells whether there is such an object."""

    @abstractmethod
    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """Yields the objects whose keys start with `prefix` and are greater than `after`.

        In the order of the keys' characters, in bounded memory per page or folder. The prefix may
        end anywhere ("packs/a" finds "packs/ab/…") but obeys the rules for keys up to there.
        Objects put or deleted meanwhile may or may not appear; unfinished ones never do, nor
        do things that lie beside the objects under names that are no keys.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Removes an object; does nothing where there is none."""

    def free_bytes(self) -> int | None:
        """Returns how many bytes there is room for; None where that is nobody's concern."""
        return None

    def uncached(self) -> "Backend":
        """Returns what reads from where the objects really are: this, unless it is a cache."""
        return self

    def close(self) -> None:
        """Releases connections and the like. The backend is not used afterwards."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_key(key: str) -> str:
    """Returns `key` if it is one, so that it cannot lead out of the place where objects are kept.

    A key is "/"-separated segments of ASCII letters, digits, ".", "_" and "-", none of them empty,
    "." or "..", none longer than 255 characters, 900 in total; the first segment is not "tmp".
    Raises InvalidKey.
    """
    if len(key) > MAX_KEY_CHARS:
        raise InvalidKey(f"key of {len(key)} characters, at most {MAX_KEY_CHARS} are allowed")
    segments = key.split("/")
    if not all(map(_is_segment, segments)):
        raise InvalidKey(f"not a key: {key!r}")
    if segments[0] == RESERVED_SEGMENT:
        raise InvalidKey(f"{key!r}: keys under {RESERVED_SEGMENT}/ are reserved")
    return key


def is_key(name: str) -> bool:
    """Tells whether `check_key` would accept `name`."""
    try:
        check_key(name)
    except InvalidKey:
        return False
    return True


def check_prefix(prefix: str) -> str:
    """Returns `prefix` if some key could start with it. Raises InvalidKey."""
    folders, _, last = prefix.rpartition("/")
    if len(prefix) > MAX_KEY_CHARS or (last and not _SEGMENT.fullmatch(last)):
        raise InvalidKey(f"no key starts with {prefix!r}")
    if folders or prefix.startswith("/"):
        check_key(folders)
    return prefix


def check_range(start: int, stop: int | None) -> None:
    """Raises ValueError unless [start, stop) is a range."""
    if start < 0 or (stop is not None and stop < start):
        raise ValueError(f"not a byte range: [{start}, {stop})")


def resolve_range(key: str, size: int, start: int, stop: int | None) -> tuple[int, int]:
    """Returns the range with its end filled in. Raises CorruptObject where `size` falls short."""
    check_range(start, stop)
    end = max(start, size) if stop is None else stop
    if end > size:
        raise CorruptObject(f"{key} has {size} bytes, asked for [{start}, {end})")
    return start, end


def byte_view(data: BytesLike) -> memoryview:
    """Returns `data` as a flat view of its bytes, so that len() counts bytes. Aliases `data`."""
    return memoryview(data).cast("B")


def _is_segment(text: str) -> bool:
    return (
        _SEGMENT.fullmatch(text) is not None
        and text not in (".", "..")
        and len(text) <= MAX_SEGMENT_CHARS
    )
