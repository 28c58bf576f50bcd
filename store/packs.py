"""Packs: immutable objects of frames back to back and an index at the end (FORMAT.md, Pack)."""

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import BinaryIO, Self

import xxhash
import zstandard
from blake3 import blake3

from .backend import BytesLike, byte_view
from .errors import CorruptObject, UnsupportedFormat, from_os_error

VERSION = 1
DIGEST_BYTES = 32
MAX_INPUTS = 16
"""Inputs of a derived frame, which a reader holds in memory together."""

MAX_CHAIN = 8
"""Deltas in a chain, the most that a reader decodes for one chunk beside a standalone frame."""
STANDALONE, DELTA, DERIVED = 0, 1, MAX_CHAIN + 1
"""The levels of frames. A frame needs chunks whose frames have a lower level than its own: a delta
of level DELTA to MAX_CHAIN one that is standalone or a delta of a lower level, a derived frame up
to MAX_INPUTS that are standalone or deltas."""

_MAGIC = b"WVPACK\n"
_HEADER = _MAGIC + bytes([VERSION])
# checksum, index bytes, entries, inputs from outside, flags, reserved, magic, version
_TRAILER = struct.Struct("<QIIIHH7sB")
_FACTS_ZSTD = 1
_HAS_DERIVED = 2
_HAS_CHAINS = 4
_KNOWN_FLAGS = _FACTS_ZSTD | _HAS_DERIVED | _HAS_CHAINS
# frame bytes u64, raw bytes u64, base u32, codec u8, dtype u8
_FACT_BYTES = 22
# SQL integers are signed.
_RAW_LIMIT = 1 << 63
# Holds the index of 1,900 frames. A pack of 64 MiB rarely has more, so one read finds it all, and
# on S3 the time of a read this long is still that of the request.
_TAIL_BYTES = 64 << 10
# The facts of 10,000 frames take 15-20 ms at this level, 1 ms at level 3, which is 8-18 % larger.
_ZSTD_LEVEL = 19


@dataclass(frozen=True, slots=True)
class PackEntry:
    """One frame of a pack: the bytes [offset, offset + frame_bytes) of the object.

    `digest` is that of the raw bytes, which the frame decodes to and of which there are
    `raw_bytes`. `inputs` are the digests of the chunks that decoding it takes, in the frame's
    order: the base of a delta; with `derived`, 1 to MAX_INPUTS of any number. `codec` and `dtype`
    are numbers below 256 that mean nothing here. `depth` is the level of a delta, DELTA to
    MAX_CHAIN; of other frames it is DELTA and means nothing.
    """

    digest: bytes
    offset: int
    frame_bytes: int
    raw_bytes: int
    codec: int
    dtype: int
    inputs: tuple[bytes, ...] = ()
    derived: bool = False
    depth: int = DELTA

    @property
    def level(self) -> int:
        """STANDALONE, that of a delta, or DERIVED."""
        return DERIVED if self.derived else self.depth if self.inputs else STANDALONE

    @property
    def base_digest(self) -> bytes | None:
        """The digest of a delta's base, None for any other frame."""
        return self.inputs[0] if self.inputs and not self.derived else None


class PackWriter:
    """Writes one pack to a new file at a path, or to a buffered binary file at its position.

    `size` is the bytes written so far, `entries` what they hold. A file opened here is closed by
    `finish` and removed by `abort`; one that was passed in is left to the caller. Leaving a `with`
    block without `finish` aborts. A write that fails aborts too and raises StorageFull or another
    StoreError.
    """

    def __init__(self, target: str | os.PathLike[str] | BinaryIO) -> None:
        self.size = 0
        self.entries: list[PackEntry] = []
        self._hasher = blake3()
        self._open = True
        self._path: Path | None = None
        if isinstance(target, str | os.PathLike):
            self._file = _create(Path(target))
            self._path = Path(target)
        else:
            self._file = target
        self._write(_HEADER)

    def add(
        self,
        frame: BytesLike,
        *,
        digest: bytes,
        raw_bytes: int,
        codec: int,
        dtype: int,
        inputs: Sequence[bytes] = (),
        derived: bool = False,
        depth: int = DELTA,
    ) -> PackEntry:
        """Appends a frame and returns where it lies. Raises ValueError for facts out of range."""
        view = byte_view(frame)
        facts = (raw_bytes, codec, dtype, tuple(inputs), derived, depth)
        entry = PackEntry(digest, self.size, len(view), *facts)
        _check_entry(entry)
        self._write(view)
        self.entries.append(entry)
        return entry

    def finish(self) -> str:
        """Writes the index and returns the pack's name: the BLAKE3 of all its bytes, in hex.

        The bytes are flushed, not synced: a backend's put_file does that to its own copy. Raises
        ValueError for a pack without frames.
        """
        self._check_open()
        if not self.entries:
            raise ValueError("a pack holds at least one frame")
        self._write(encode_index(self.entries))
        with self._abort_on_error():
            self._file.flush()
        self._close()
        return self._hasher.hexdigest()

    def abort(self) -> None:
        """Gives the pack up and removes its file. Does nothing after `finish`."""
        if self._open:
            self._close()
            if self._path is not None:
                self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def _check_open(self) -> None:
        if not self._open:
            raise ValueError("the pack is finished or given up")

    def _write(self, data: BytesLike) -> None:
        self._check_open()
        with self._abort_on_error():
            self._file.write(data)
        self._hasher.update(data)
        self.size += len(data)

    def _close(self) -> None:
        self._open = False
        if self._path is not None:
            # What could not be flushed has been reported, or is about to be removed.
            with suppress(OSError):
                self._file.close()

    @contextmanager
    def _abort_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.abort()
            raise from_os_error(error, f"cannot write {self._path or 'a pack'}") from error


def encode_index(entries: Sequence[PackEntry]) -> bytes:
    """Returns the index and the trailer for frames that lie back to back in this order."""
    table = [entry.digest for entry in entries]
    rows = {digest: row for row, digest in enumerate(table)}
    for digest in (digest for entry in entries for digest in entry.inputs):
        if digest not in rows:
            rows[digest] = len(table)
            table.append(digest)
    facts = _join_facts(entries, rows)
    packed = zstandard.compress(facts, _ZSTD_LEVEL)
    is_packed = len(packed) < len(facts)
    flags = _FACTS_ZSTD * is_packed | _flags_of(entries)
    index = b"".join(table) + (packed if is_packed else facts)
    outside = len(table) - len(entries)
    trailer = _TRAILER.pack(0, len(index), len(entries), outside, flags, 0, _MAGIC, VERSION)
    checksum = xxhash.xxh3_64_intdigest(index + trailer[8:])
    return index + checksum.to_bytes(8, "little") + trailer[8:]


def _flags_of(entries: Sequence[PackEntry]) -> int:
    """Which columns the facts of these frames have beyond those that all have."""
    derived = any(entry.derived for entry in entries)
    return _HAS_DERIVED * derived | _HAS_CHAINS * any(entry.depth > DELTA for entry in entries)


def predict_size(entries: Sequence[PackEntry]) -> int:
    """Returns the bytes of a pack that holds such frames in this order, wherever they lie now."""
    frames = sum(entry.frame_bytes for entry in entries)
    return len(_HEADER) + frames + len(encode_index(entries))


def read_index(read: Callable[[int, int], bytes], size: int) -> list[PackEntry]:
    """Returns the entries of a pack of `size` bytes, in the order of their offsets.

    `read(start, stop)` returns bytes of the pack; it is called once, or twice for a long index,
    and what is kept in memory is bounded by the pack's size whatever the bytes claim. The entries'
    frames fill the pack exactly. Raises CorruptObject for anything else, UnsupportedFormat for a
    sound pack of a newer format; what `read` raises passes through.
    """
    if size < len(_HEADER) + _TRAILER.size:
        raise CorruptObject(f"a pack of {size} bytes is too short to be one")
    tail_start = max(0, size - _TAIL_BYTES)
    tail = _read_exactly(read, tail_start, size)
    index_bytes = _parse_index_bytes(tail[-_TRAILER.size :], size)
    index_start = size - _TRAILER.size - index_bytes
    if index_start < tail_start:
        tail = _read_exactly(read, index_start, tail_start) + tail
        tail_start = index_start
    return _parse_index(tail[index_start - tail_start :], index_start)


def check_start(read: Callable[[int, int], bytes]) -> None:
    """Raises CorruptObject unless a pack begins as one. Reading the index alone does not need it;
    who takes in a pack from outside does, as every byte of it counts."""
    if _read_exactly(read, 0, len(_HEADER)) != _HEADER:
        raise CorruptObject("no pack: it does not begin as one")


def _parse_index_bytes(trailer: bytes, size: int) -> int:
    _, index_bytes, _, _, _, _, magic, _ = _TRAILER.unpack(trailer)
    if magic != _MAGIC:
        raise CorruptObject("no pack: it does not end as one")
    if index_bytes > size - len(_HEADER) - _TRAILER.size:
        raise CorruptObject(f"pack index claims {index_bytes} of the pack's {size} bytes")
    return index_bytes


def _parse_index(stored: bytes, frames_end: int) -> list[PackEntry]:
    """Checks and takes apart index and trailer; the frames end where the index starts."""
    index, trailer = stored[: -_TRAILER.size], stored[-_TRAILER.size :]
    checksum, _, count, outside, flags, reserved, _, version = _TRAILER.unpack(trailer)
    if checksum != xxhash.xxh3_64_intdigest(index + trailer[8:]):
        raise CorruptObject("pack index fails its checksum")
    if version > VERSION or flags & ~_KNOWN_FLAGS:
        raise UnsupportedFormat(f"pack of format {version}, flags {flags:#x}: upgrade weightvault")
    most = count * (MAX_INPUTS if flags & _HAS_DERIVED else 1)
    table_bytes = DIGEST_BYTES * (count + outside)
    if version < 1 or reserved or not count or outside > most or table_bytes > len(index):
        raise CorruptObject(f"pack index of {len(index)} bytes claims {count} + {outside} digests")
    table = [index[at : at + DIGEST_BYTES] for at in range(0, table_bytes, DIGEST_BYTES)]
    facts = _expand_facts(index[table_bytes:], count, flags)
    depths = bytes([DELTA]) * count
    if flags & _HAS_CHAINS:
        start = _FACT_BYTES * count
        depths, facts = facts[start:][:count], facts[:start] + facts[start + count :]
    return _split_facts(facts, depths, table, frames_end)


def _expand_facts(stored: bytes, count: int, flags: int) -> bytes:
    least = most = (_FACT_BYTES + bool(flags & _HAS_CHAINS)) * count
    if flags & _HAS_DERIVED:
        least, most = least + count + 4, least + count * (1 + 4 * MAX_INPUTS)
    if flags & _FACTS_ZSTD:
        try:
            # The decompressor allocates what the frame's own header asks for.
            if not least <= zstandard.frame_content_size(stored) <= most:
                raise CorruptObject("pack index has the wrong length")
            stored = zstandard.ZstdDecompressor().decompress(stored, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise CorruptObject(f"pack index does not decompress: {error}") from error
    if not least <= len(stored) <= most:
        raise CorruptObject("pack index has the wrong length")
    return stored


def _join_facts(entries: Sequence[PackEntry], rows: dict[bytes, int]) -> bytes:
    bases = [0 if e.base_digest is None else rows[e.base_digest] + 1 for e in entries]
    facts = [
        _split_planes([e.frame_bytes for e in entries], "<u8"),
        _split_planes([e.raw_bytes for e in entries], "<u8"),
        _split_planes(bases, "<u4"),
        bytes(e.codec for e in entries),
        bytes(e.dtype for e in entries),
    ]
    if any(entry.depth > DELTA for entry in entries):
        facts.append(bytes(entry.depth for entry in entries))
    if any(entry.derived for entry in entries):
        inputs = [rows[digest] for e in entries if e.derived for digest in e.inputs]
        facts.append(bytes(len(e.inputs) if e.derived else 0 for e in entries))
        facts.append(_split_planes(inputs, "<u4"))
    return b"".join(facts)


def _split_facts(
    facts: bytes, depths: bytes, table: list[bytes], frames_end: int
) -> list[PackEntry]:
    count = len(depths)
    frame_bytes = _join_planes(facts[: 8 * count], "<u8")
    raw_bytes = _join_planes(facts[8 * count : 16 * count], "<u8")
    bases = _join_planes(facts[16 * count : 20 * count], "<u4")
    codecs, dtypes = facts[20 * count : 21 * count], facts[21 * count : 22 * count]
    offsets = list(accumulate(frame_bytes, initial=len(_HEADER)))
    if offsets.pop() != frames_end or not all(frame_bytes):
        raise CorruptObject("pack index does not describe the pack's frames")
    if max(bases) > len(table) or max(raw_bytes) >= _RAW_LIMIT:
        raise CorruptObject("pack index has a fact out of range")
    for base, depth in zip(bases, depths, strict=True):
        if not DELTA <= depth <= (MAX_CHAIN if base else DELTA):
            raise CorruptObject(f"pack index has a frame with a chain of {depth} deltas")
    inputs = [() if base == 0 else (table[base - 1],) for base in bases]
    derived = _split_derived(facts[_FACT_BYTES * count :], table, bases)
    columns = zip(offsets, frame_bytes, raw_bytes, codecs, dtypes, strict=True)
    return [
        PackEntry(table[row], *column, derived.get(row, inputs[row]), row in derived, depths[row])
        for row, column in enumerate(columns)
    ]


def _split_derived(
    stored: bytes, table: list[bytes], bases: list[int]
) -> dict[int, tuple[bytes, ...]]:
    """Returns the inputs of derived frames by row; `stored` is what follows the other facts."""
    if not stored:
        return {}
    counts, rest = stored[: len(bases)], stored[len(bases) :]
    if max(counts) > MAX_INPUTS or len(rest) != 4 * sum(counts):
        raise CorruptObject("pack index does not say the inputs of its derived frames")
    rows = _join_planes(rest, "<u4")
    if any(base and many for base, many in zip(bases, counts, strict=True)):
        raise CorruptObject("pack index has a frame that is a delta and derived")
    if max(rows) >= len(table):
        raise CorruptObject("pack index has a fact out of range")
    digests = iter([table[row] for row in rows])
    found = ((row, tuple(islice(digests, many))) for row, many in enumerate(counts))
    return {row: inputs for row, inputs in found if inputs}


def _split_planes(values: list[int], dtype: str) -> bytes:
    """Returns the lowest bytes of all values, then the next ones, and so on."""
    # Loaded by those who read or write a pack: every command imports this module.
    import numpy as np

    array = np.array(values, dtype)
    return array.view(np.uint8).reshape(len(values), -1).T.tobytes()


def _join_planes(planes: bytes, dtype: str) -> list[int]:
    import numpy as np

    array = np.frombuffer(planes, np.uint8).reshape(np.dtype(dtype).itemsize, -1)
    return np.ascontiguousarray(array.T).view(dtype).ravel().tolist()


def _check_entry(entry: PackEntry) -> None:
    if any(len(digest) != DIGEST_BYTES for digest in (entry.digest, *entry.inputs)):
        raise ValueError(f"a digest has {DIGEST_BYTES} bytes")
    least, most = (1, MAX_INPUTS) if entry.derived else (0, 1)
    if not least <= len(entry.inputs) <= most:
        raise ValueError(f"a frame of level {entry.level} with {len(entry.inputs)} inputs")
    is_delta = bool(entry.inputs) and not entry.derived
    if not DELTA <= entry.depth <= (MAX_CHAIN if is_delta else DELTA):
        raise ValueError(f"a chain of {entry.depth} deltas")
    if not entry.frame_bytes:
        raise ValueError("a frame has at least one byte")
    if not 0 <= entry.raw_bytes < _RAW_LIMIT:
        raise ValueError(f"raw bytes out of range: {entry.raw_bytes}")
    if not (0 <= entry.codec < 256 and 0 <= entry.dtype < 256):
        raise ValueError(f"codec {entry.codec} or dtype {entry.dtype} is not a byte")


def _read_exactly(read: Callable[[int, int], bytes], start: int, stop: int) -> bytes:
    data = read(start, stop)
    if len(data) != stop - start:
        raise CorruptObject(f"pack: {len(data)} bytes came for [{start}, {stop})")
    return data


def _create(path: Path) -> BinaryIO:
    try:
        return open(path, "xb")
    except OSError as error:
        raise from_os_error(error, f"cannot write {path}") from error
