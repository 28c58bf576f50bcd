"""Takes zip archives apart: npz, PyTorch checkpoints, Keras 3 models, archives of those.

A member that is stored as it is is taken apart like a file of its own; one that is compressed is
opaque, and inflated only where it is the pickle of a checkpoint. Members are found through the
central directory alone. Source: PKWARE, "APPNOTE.TXT - .ZIP File Format Specification", 4.3 to 4.5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

from ..model.files.segments import Segment
from .cutting.reader import ReadableFile, Unreadable, Window, read_at, work_of
from .source import Member, TakeApart, cover
from .torch import torch_zip

# About 100,000 members, each of which takes 0.2 ms to look into; the directory of a checkpoint
# with 1,000 tensors takes 100 KB.
_MAX_DIRECTORY_BYTES = 8 * 1024 * 1024

_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_MAX_COMMENT_BYTES = 65_535
_IN_ZIP64 = 0xFFFF_FFFF
_ENCRYPTED = 1
_STORED = 0
_DEFLATED = 8
# What a member takes besides reading what lies in it, in reads of a few bytes.
_MEMBER_READS = 16


def recognise(_name: str, head: bytes) -> bool:
    """Says whether a file that starts with `head` is a zip archive with any member."""
    return head.startswith(b"PK\x03\x04")


def segment(file: ReadableFile, size: int, take_apart: TakeApart) -> list[Segment]:
    """Returns the segments of a zip archive of `size` bytes, and of those in front of it: shards of
    distributed PyTorch checkpoints have one for each tensor. Raises Unreadable where the directory
    of the last cannot be followed.

    `take_apart` returns the segments of a member. Of members that overlap, the first counts.
    """
    start, placed = _take_archive(file, size, take_apart, _MAX_COMMENT_BYTES)
    while start >= _LOCAL.size + _END.size:
        work_of(file).spend(_MEMBER_READS)
        try:
            # Without a comment: there may be thousands.
            start, more = _take_archive(Window(file, 0, start), start, take_apart, 0)
        except Unreadable:
            break
        placed += more
    return cover(file, size, placed)


def _take_archive(
    file: ReadableFile, size: int, take_apart: TakeApart, comment_bytes: int
) -> tuple[int, list[tuple[int, list[Segment]]]]:
    """Returns where the archive that ends at `size`, with a comment of at most `comment_bytes`,
    begins, and its members' segments by their first byte."""
    first, members = _find_members(file, size, comment_bytes)
    storages = torch_zip.find_storages(file, members)
    placed: list[tuple[int, list[Segment]]] = []
    end = 0
    for member in sorted(members, key=lambda m: m.start):
        if member.start >= end and member.plain is None:
            window = Window(file, member.start, member.size)
            tensors = storages.get(member.name)
            parts = tensors or take_apart(member.name, window, member.size)
            placed.append((member.start, parts))
            end = member.start + member.size
    return first, placed


def _find_members(file: ReadableFile, size: int, comment_bytes: int) -> tuple[int, list[Member]]:
    """Returns where the archive begins, and its members."""
    start, stop, shift = _find_directory(file, size, comment_bytes)
    directory = read_at(file, start, stop - start)
    return shift, list(_list_members(file, size, directory, start, shift))


def _list_members(
    file: ReadableFile, size: int, directory: bytes, start: int, shift: int
) -> Iterator[Member]:
    at = 0
    while at < len(directory):
        if at + _ENTRY.size > len(directory):
            raise Unreadable("the directory ends inside an entry")
        fields = _ENTRY.unpack_from(directory, at)
        if fields[0] != b"PK\x01\x02":
            raise Unreadable(f"no directory entry at {start + at}")
        _, _, _, flags, method, _, _, _, packed, plain, n_name, n_extra, n_comment = fields[:13]
        name_at = at + _ENTRY.size
        name = directory[name_at : name_at + n_name].decode("utf-8", "replace")
        extra = directory[name_at + n_name : name_at + n_name + n_extra]
        plain, packed, offset = _widen(extra, plain, packed, fields[-1])
        at = name_at + n_name + n_extra + n_comment
        stored = method == _STORED and packed == plain > 0
        if (stored or method == _DEFLATED) and not flags & _ENCRYPTED:
            work_of(file).spend(_MEMBER_READS)
            inflated = None if stored else plain
            yield _place(file, size, Member(name, offset + shift, packed, inflated))


def _place(file: ReadableFile, size: int, member: Member) -> Member:
    """Returns a member where its bytes start: behind its local header, whose length the directory
    does not tell."""
    header = _LOCAL.unpack(read_at(file, member.start, _LOCAL.size))
    if header[0] != b"PK\x03\x04":
        raise Unreadable(f"no member at {member.start}")
    start = member.start + _LOCAL.size + header[-2] + header[-1]
    if member.size > size - start:
        raise Unreadable(f"member {member.name!r} lies outside of the archive")
    return replace(member, start=start)


def _find_directory(file: ReadableFile, size: int, comment_bytes: int) -> tuple[int, int, int]:
    """Returns where the central directory starts and stops, and how far everything lies behind
    where the archive says (something was put in front of it)."""
    tail_start = max(0, size - _END.size - comment_bytes)
    tail = read_at(file, tail_start, size - tail_start)
    at = tail.rfind(b"PK\x05\x06")
    if not 0 <= at <= len(tail) - _END.size:
        raise Unreadable("no end of a central directory")
    length, offset = _END.unpack_from(tail, at)[5:7]
    stop = tail_start + at
    end64 = _find_end64(file, stop)
    if end64 is not None:
        stop, length, offset = end64
    if length > min(stop, _MAX_DIRECTORY_BYTES):
        raise Unreadable(f"central directory of {length} bytes")
    shift = stop - length - offset
    if shift < 0:
        raise Unreadable("the central directory lies behind its end")
    return stop - length, stop, shift


def _find_end64(file: ReadableFile, stop: int) -> tuple[int, int, int] | None:
    """Returns stop, length and offset of a zip64 directory; None where there is none."""
    if stop < _LOCATOR.size + _END64.size:
        return None
    magic, _, end64, _ = _LOCATOR.unpack(read_at(file, stop - _LOCATOR.size, _LOCATOR.size))
    if magic != b"PK\x06\x07":
        return None
    # Right before the locator, unless somebody extended it: then the offset tells.
    for at in (stop - _LOCATOR.size - _END64.size, end64):
        if 0 <= at <= stop - _END64.size:
            fields = _END64.unpack(read_at(file, at, _END64.size))
            if fields[0] == b"PK\x06\x06":
                return at, fields[-2], fields[-1]
    raise Unreadable("no end of a zip64 central directory")


def _widen(extra: bytes, plain: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Returns the sizes and the offset, from the zip64 field where they do not fit their own."""
    values = [plain, packed, offset]
    narrow = [i for i, value in enumerate(values) if value == _IN_ZIP64]
    at = 0
    while narrow and at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        field = extra[at + 4 : at + 4 + length]
        if kind == 1:
            for place, i in enumerate(narrow):
                wide = field[8 * place : 8 * place + 8]
                if len(wide) != 8:
                    raise Unreadable("a zip64 field is cut short")
                values[i] = int.from_bytes(wide, "little")
            break
        at += 4 + length
    return values[0], values[1], values[2]
