"""The Range header (RFC 9110, section 14), for one range of bytes."""

from __future__ import annotations

import re

from ..errors import RangeNotSatisfiable

_RANGE = re.compile(r"bytes=\s*(\d*)-(\d*)\s*", re.ASCII)
# Longer numbers name no byte of any file; Python would refuse some of them only after 4,300 digits.
_MAX_DIGITS = 19


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Returns the bytes [start, stop) that `header` asks for of something of `size` bytes.

    None means the whole: no header, one that is malformed, or several ranges, all of which a
    server may answer with everything. An end beyond the last byte is clamped; raises
    RangeNotSatisfiable when not one byte asked for exists.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None:
        return None
    first, last = match.groups()
    if first == last == "" or max(len(first), len(last)) > _MAX_DIGITS:
        return None
    if first == "":
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= stop:
        raise RangeNotSatisfiable(
            f"range {header!r} is beyond the end", f"there are {size} bytes", size=size
        )
    return start, stop
