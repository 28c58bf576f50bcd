"""Takes tar archives apart, as NeMo's checkpoints and backups are.

Layout: a header of 512 bytes for each member, then its bytes, filled up to 512 again. Names that do
not fit stand in a member before it (GNU), or in its records (pax). Source: POSIX.1-2017, pax,
"ustar Interchange Format" and "pax Header Block"; the GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

from collections.abc import Iterator

from ..model.files.segments import Segment
from .cutting.reader import ReadableFile, Unreadable, Window, read_at, work_of
from .source import Member, TakeApart, cover

_BLOCK_BYTES = 512
_MAGIC_AT = 257
# Records hold a path of up to 4 KiB; whole files have been put into them.
_MAX_RECORDS_BYTES = 64 * 1024
# What a member takes besides reading what lies in it, in reads of a few bytes.
_MEMBER_READS = 16

_REGULAR = (b"0", b"\0", b"7")
_LONG_NAME, _RECORDS = b"L", b"x"
# Members whose bytes are not those of the file they hold, or that go on elsewhere.
_SPARSE, _CONTINUED = b"S", b"M"


def recognise(_name: str, head: bytes) -> bool:
    """Says whether a file that starts with `head` is a tar archive."""
    return head[_MAGIC_AT : _MAGIC_AT + 5] == b"ustar"


def segment(file: ReadableFile, size: int, take_apart: TakeApart) -> list[Segment]:
    """Returns the segments of a tar archive of `size` bytes; raises Unreadable where its headers
    cannot be followed. `take_apart` returns the segments of a member."""
    placed = [
        (
            member.start,
            take_apart(member.name, Window(file, member.start, member.size), member.size),
        )
        for member in _find_members(file, size)
    ]
    return cover(file, size, placed)


def _find_members(file: ReadableFile, size: int) -> Iterator[Member]:
    at = 0
    facts: dict[str, str] = {}
    while at + _BLOCK_BYTES <= size:
        work_of(file).spend(_MEMBER_READS)
        header = read_at(file, at, _BLOCK_BYTES)
        if not any(header):
            return
        kind, length = header[156:157], _read_size(header)
        start = at + _BLOCK_BYTES
        at = start + -(-length // _BLOCK_BYTES) * _BLOCK_BYTES
        if length > size - start or kind in (_SPARSE, _CONTINUED):
            raise Unreadable("a member that is not there as it is")
        if kind in (_LONG_NAME, _RECORDS):
            facts |= _read_facts(file, kind, start, length)
        else:
            if "size" in facts:
                raise Unreadable("a member whose length is not in its header")
            if kind in _REGULAR and length:
                yield Member(facts.get("path") or _read_name(header), start, length)
            facts = {}


def _read_size(header: bytes) -> int:
    """Returns the bytes of a member: octal digits, or a binary number where those do not do."""
    if header[_MAGIC_AT : _MAGIC_AT + 5] != b"ustar":
        raise Unreadable("no header of a member")
    field = header[124:136]
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.rstrip(b"\0 ").lstrip(b" ")
    if any(digit not in b"01234567" for digit in digits):
        raise Unreadable("a member without a length")
    return int(digits or b"0", 8)


def _read_name(header: bytes) -> str:
    name, prefix = (field.partition(b"\0")[0] for field in (header[:100], header[345:500]))
    # GNU's headers have other things where POSIX has the first part of a long name.
    posix = header[_MAGIC_AT + 5 : _MAGIC_AT + 6] == b"\0"
    return (prefix + b"/" + name if prefix and posix else name).decode("utf-8", "replace")


def _read_facts(file: ReadableFile, kind: bytes, start: int, length: int) -> dict[str, str]:
    """Returns what stands before a member about it: its path, or that its length is elsewhere."""
    if length > _MAX_RECORDS_BYTES:
        raise Unreadable(f"{length} bytes about a member")
    data = read_at(file, start, length)
    if kind == _LONG_NAME:
        return {"path": data.rstrip(b"\0").decode("utf-8", "replace")}
    facts: dict[str, str] = {}
    at = 0
    while at < length:
        # "30 mtime=1350244992.023960108\n": the number counts all of a record, itself too.
        digits = data[at : at + 6].partition(b" ")[0]
        taken = int(digits) if digits.isdigit() else 0
        record = data[at + len(digits) + 1 : at + taken - 1]
        if not 0 < taken <= length - at or b"=" not in record:
            raise Unreadable("a record that cannot be read")
        key, _, value = record.partition(b"=")
        facts[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        at += taken
    if any(key.startswith("GNU.sparse") for key in facts):
        raise Unreadable("a member that is not there as it is")
    return facts
