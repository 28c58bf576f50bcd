"""State dicts as safetensors files that nobody writes: their bytes are made as they are read."""

from __future__ import annotations

import io
import json
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ...dedup.errors import InvalidInput
from ...dedup.progress import Progress
from ...dedup.transfer.push_stream import push_stream
from ...dedup.vault import Commit, Vault
from .arrays import array_bytes

# Safetensors lays out tensors by dtype, these from the last to the first, and then by name.
_ORDER = (
    *("BOOL", "F4", "F6_E2M3", "F6_E3M2", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"),
    *("I16", "U16", "F16", "BF16", "I32", "U32", "F32", "C64", "F64", "I64", "U64"),
)
_ENDING = ".safetensors"

Bytes = NDArray[np.uint8]


def save_tensors(
    vault: Vault,
    repo: str,
    branch: str,
    path: str,
    tensors: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
    *,
    message: str | None = None,
    base: str | None = None,
    level: str = "default",
    progress: Progress | None = None,
) -> Commit:
    """Commits tensors as the safetensors file `path` of a branch. Raises InvalidInput for what is
    no array, and VaultError kinds."""
    if not path.endswith(_ENDING):
        raise InvalidInput(f"{path!r} does not end in {_ENDING}", "name a safetensors file")
    source = StateFile(path, tensors, metadata)
    return push_stream(
        vault,
        path,
        source,
        source.size,
        repo,
        branch,
        message=message,
        base=base,
        level=level,
        progress=progress,
    )


class StateFile:
    """The safetensors file of a state dict; opens as a path does. It refers to the arrays."""

    def __init__(
        self, path: str, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
    ) -> None:
        self._path = path
        header, parts = _lay_out(tensors, metadata)
        self.parts: list[Bytes] = [np.frombuffer(header, np.uint8), *parts]
        self.size = sum(part.size for part in self.parts)

    def __str__(self) -> str:
        return self._path

    def open(self, mode: Literal["rb"] = "rb") -> StateReader:
        """Opens it for reading."""
        return StateReader(self.parts)


class StateReader(io.RawIOBase):
    """A state dict's file, open for reading."""

    def __init__(self, parts: list[Bytes]) -> None:
        super().__init__()
        self._parts = parts
        self._ends = list(accumulate(part.size for part in parts))
        self._position = 0

    def readable(self) -> bool:
        """See io.RawIOBase."""
        return True

    def seekable(self) -> bool:
        """See io.RawIOBase."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """See io.RawIOBase."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ends[-1]}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fills all of the buffer, unless the file ends before."""
        room = np.frombuffer(buffer, np.uint8)
        filled = 0
        while filled < room.size and self._position < self._ends[-1]:
            number = bisect_right(self._ends, self._position)
            part, start = self._parts[number], self._ends[number] - self._parts[number].size
            piece = part[self._position - start :][: room.size - filled]
            room[filled : filled + piece.size] = piece
            filled += piece.size
            self._position += piece.size
        return filled


def _lay_out(
    tensors: Mapping[str, Any], metadata: Mapping[str, str] | None
) -> tuple[bytes, list[Bytes]]:
    """Returns the length and header of a safetensors file, and the bytes of its tensors in order.

    As the reference implementation writes it: `serialize` in its tensor.rs.
    """
    found = {name: array_bytes(value) for name, value in tensors.items()}
    names = sorted(found, key=lambda name: (-_ORDER.index(found[name][0]), name.encode()))
    header: dict[str, Any] = {}
    if metadata:
        header["__metadata__"] = {str(key): str(value) for key, value in metadata.items()}
    offset = 0
    for name in names:
        dtype, shape, raw = found[name]
        if name == "__metadata__" or not isinstance(cast("object", name), str):
            raise InvalidInput(f"no tensor can be called {name!r}")
        place = [offset, offset + raw.size]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": place}
        offset = place[1]
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, [found[name][2] for name in names]
