"""Decodes one whole frame, given what it needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...codecs.buffers import view_bytes
from ...codecs.frame import FrameHeader
from .buffer_pool import BUFFERS
from .timed_codecs import decode_tensor, derive_range

Buffer = bytes | bytearray | memoryview


def decode_frame(frame: Buffer, header: FrameHeader, inputs: Sequence[Buffer]) -> memoryview:
    """Returns the raw bytes of a frame, verified against its digest, given those of its inputs in
    order, each of which was verified when it was decoded. Raises FrameError."""
    room = BUFFERS.take(header.raw_bytes)
    if not header.is_derived:
        base = inputs[0] if inputs else None
        return decode_tensor(frame, base=base, base_digest=header.base_digest, out=room)
    known = dict(zip(header.inputs, inputs, strict=True))

    def load(digest: bytes, _size: int) -> NDArray[np.uint8]:
        return view_bytes(known[digest])

    return derive_range(frame, header, load, 0, header.raw_bytes, room.data)
