"""Weights of PyTorch models that are encoded in memory, and memory that they are decoded into."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock, get_ident
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ....dedup.errors import Corrupt
from ....dedup.reading.lone_frames import decode_frame, decode_frame_range, encode_frame, is_delta
from ....dedup.reading.workers import Background, result_of
from ..arrays import array_bytes

# Of an embedding as much is decoded together: a few blocks of a frame.
_TOGETHER_BYTES = 4 << 20
_CHANGED = "the base of a compressed model was changed"


@dataclass(frozen=True, slots=True)
class Frame:
    """An encoded weight, and the weight of the base that it is a delta on."""

    data: bytes
    size: int
    dtype: torch.dtype
    shape: torch.Size
    device: torch.device
    requires_grad: bool
    base: torch.Tensor | None
    base_version: int

    def decode(self, room: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the weight, on its device: in `room`, (n,) uint8, where that is the CPU. Raises
        Corrupt where the base is not what it was."""
        memory = torch.empty(self.size, dtype=torch.uint8) if room is None else room[: self.size]
        decode_frame(self.data, self._base_bytes(), memory.numpy())
        tensor = memory.view(self.dtype).reshape(self.shape)
        return tensor if self.device.type == "cpu" else tensor.to(self.device)

    def decode_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns rows of a matrix by their numbers, ascending, on the device of the weight. Raises
        Corrupt where the base was changed."""
        wanted = rows.to("cpu")
        width = self.size // self.shape[0]
        if wanted.numel() and not 0 <= wanted[0] <= wanted[-1] < self.shape[0]:
            raise IndexError("index out of range in self")
        base = self._base_bytes()
        made = torch.empty(len(wanted), width, dtype=torch.uint8)
        together = max(1, _TOGETHER_BYTES // width)
        groups, counts = torch.unique_consecutive(wanted // together, return_counts=True)
        at = 0
        for group, count in zip(groups.tolist(), counts.tolist(), strict=True):
            first = group * together
            stop = min(first + together, self.shape[0])
            block = torch.empty(stop - first, width, dtype=torch.uint8)
            decode_frame_range(self.data, base, first * width, stop * width, block.numpy())
            made[at : at + count] = block[wanted[at : at + count] - first]
            at += count
        return made.view(self.dtype).to(self.device)

    def encode_again(self, weight: torch.Tensor, level: str) -> Frame:
        """Returns other values of the weight, encoded against the same base."""
        if self.base is not None and self.base._version != self.base_version:
            raise Corrupt(_CHANGED, "compress it anew")
        return encode_weight(weight, self.base, level)

    def _base_bytes(self) -> NDArray[np.uint8] | None:
        if self.base is None:
            return None
        if self.base._version != self.base_version:
            raise Corrupt(_CHANGED, "compress it anew")
        return _bytes_of(self.base)


class Buffers:
    """Two pieces of memory: what a module computes with is in one, while the next weight is decoded
    into the other on a second thread. What came after what the last time is what comes next. A
    weight that is far larger than all others, as that of a model's head, has a third piece to
    itself. `sizes` are those of all weights, in bytes."""

    def __init__(self, sizes: Iterable[int]) -> None:
        first, second = [*heapq.nlargest(2, sizes), 0, 0][:2]
        rooms = [second, second, first] if first > 2 * second else [first, first]
        self._rooms = [torch.empty(size, dtype=torch.uint8) for size in rooms]
        self.nbytes = sum(rooms)
        self._lock = Lock()
        self._next: dict[int, int] = {}
        self._last: int | None = None
        self._owner: int | None = None
        self._used: int | None = None
        self._ahead: tuple[int, int, Any] | None = None
        self._decoder: Background | None = None

    def take(self, number: int, frames: list[Frame]) -> torch.Tensor:
        """Returns the weight `number`: in shared memory, unless somebody computes with that."""
        frame = frames[number]
        with self._lock:
            shared = self._owner is None and not torch.is_grad_enabled()
            if shared:
                self._owner = get_ident()
        if not shared:
            return frame.decode()
        if self._last is not None:
            self._next[self._last] = number
        self._last = number
        found, room = self._find(number)
        if found is None:
            room = self._room_beside(self._used, frame.size)
            if room is None:
                room = self._room_beside(None, frame.size)
            assert room is not None
            found = frame.decode(self._rooms[room])
        self._used = room
        following = self._next.get(number)
        other = None if following is None else self._room_beside(room, frames[following].size)
        if following is not None and other is not None:
            future = self._thread().submit(frames[following].decode, self._rooms[other])
            self._ahead = following, other, future
        return found

    def _room_beside(self, used: int | None, size: int) -> int | None:
        """Returns the smallest piece that a weight fits in, but the one that is in use."""
        rooms = enumerate(self._rooms)
        return next((i for i, room in rooms if i != used and room.numel() >= size), None)

    def _find(self, number: int) -> tuple[torch.Tensor | None, int | None]:
        """Returns the weight if it was decoded ahead, and where; waits for what is being decoded,
        whatever it is, as its memory is needed."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None, None
        wanted, room, future = ahead
        tensor = result_of(future)
        return (tensor, room) if wanted == number else (None, room)

    def give_back(self, number: int) -> None:
        """The module with the weight `number` has computed."""
        with self._lock:
            if self._owner == get_ident() and self._last == number:
                self._owner = None

    def close(self) -> None:
        """Ends the thread, and lets go of the memory."""
        if self._decoder is not None:
            self._decoder.__exit__(None)
        self._rooms.clear()

    def _thread(self) -> Background:
        if self._decoder is None:
            self._decoder = Background("decode")
        return self._decoder


def encode_weight(parameter: torch.Tensor, base: torch.Tensor | None, level: str) -> Frame:
    """Returns a weight encoded, as a delta on `base` where that fits and is smaller."""
    dtype, shape, raw = array_bytes(parameter)
    if base is not None and (base.dtype, base.shape) != (parameter.dtype, parameter.shape):
        base = None
    against = None if base is None else _bytes_of(base)
    data = encode_frame(raw, dtype, against, level=level, columns=shape[-1] if shape else None)
    return Frame(
        data,
        raw.size,
        parameter.dtype,
        parameter.shape,
        parameter.device,
        parameter.requires_grad,
        base.detach() if base is not None and is_delta(data) else None,
        0 if base is None else base._version,
    )


def _bytes_of(tensor: torch.Tensor) -> NDArray[np.uint8]:
    return array_bytes(tensor)[2]
