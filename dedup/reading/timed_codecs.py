"""The codecs as everything here uses them, with a clock: servers tell how long they spend coding.

The counters go on for as long as the process does; they slow nothing down (a lock for each frame).
No frame is begun for somebody who has gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from threading import Lock
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ...codecs import pipeline, ranges
from ...codecs.errors import FrameError
from ...codecs.frame import FrameHeader, parse_header
from ...store.cancel import check_cancelled
from ..errors import Corrupt

if TYPE_CHECKING:
    from ..derivations.predict import Load, LoadPart

Buffer = bytes | bytearray | memoryview

_P = ParamSpec("_P")
_T = TypeVar("_T", bytes, memoryview)


@dataclass
class Clock:
    """Frames coded one way, seconds that took (of all threads together), raw bytes made of them or
    into them."""

    frames: int = 0
    seconds: float = 0.0
    raw_bytes: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def add(self, seconds: float, raw_bytes: int) -> None:
        """Counts one frame."""
        with self._lock:
            self.frames += 1
            self.seconds += seconds
            self.raw_bytes += raw_bytes


ENCODING, DECODING = Clock(), Clock()


def _timed(code: Callable[_P, _T], clock: Clock, raw_at: int | None = None) -> Callable[_P, _T]:
    """``raw_at``: which argument is the raw bytes, None where they are the result."""

    @wraps(code)
    def run(*args: _P.args, **options: _P.kwargs) -> _T:
        check_cancelled()
        start = time.perf_counter()
        made = code(*args, **options)
        raw = made if raw_at is None else args[raw_at]
        clock.add(time.perf_counter() - start, memoryview(raw).nbytes)  # type: ignore[arg-type]
        return made

    return run


encode_tensor = _timed(pipeline.encode_tensor, ENCODING, 0)
encode_into = _timed(pipeline.encode_into, ENCODING, 1)
decode_tensor = _timed(pipeline.decode_tensor, DECODING)
decode_range = _timed(pipeline.decode_range, DECODING)
decode_part = _timed(ranges.decode_part, DECODING)


def derive_range(
    frame: Buffer,
    header: FrameHeader,
    load: Load,
    start: int,
    stop: int,
    out: Buffer,
    *,
    load_part: LoadPart | None = None,
) -> memoryview:
    """See derived_frames.decode, which loads its coders only where there is such a frame."""
    from ..derivations import derived_frames

    decode = _timed(derived_frames.decode, DECODING)
    return decode(frame, header, load, start, stop, out, load_part=load_part)


def read_header(frame: bytes, digest: bytes) -> FrameHeader:
    """Returns the header of the frame that is stored for a chunk. Raises Corrupt where it cannot be
    read."""
    try:
        return parse_header(frame)
    except FrameError as error:
        raise Corrupt(f"frame of chunk {digest.hex()} is damaged: {error}") from error
