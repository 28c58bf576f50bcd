"""Files that are not what they seem: kept as they are, byte for byte, but worth a warning."""

from __future__ import annotations

import re

from ..errors import InvalidFile
from ..model.file_kinds import KINDS
from . import safetensors
from .cutting.reader import ReadableFile

# Source: docs/spec.md of git-lfs: a pointer is text of less than 1,024 bytes.
_POINTER_BYTES = 1024
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\r?\n(?:.*\n)*?oid sha256:[0-9a-f]{64}\r?\n"
    rb"(?:.*\n)*?size ([0-9]{1,18})\s*"
)


def find_oddity(name: str, file: ReadableFile, size: int) -> str | None:
    """Returns what is odd about a file of `size` bytes, None for most files."""
    if size < _POINTER_BYTES:
        file.seek(0)
        pointer = _POINTER.match(file.read(size))
        if pointer is not None:
            return (
                f"a git-lfs pointer to a file of {int(pointer[1])} bytes, not the file itself: "
                "`git lfs pull` fetches that"
            )
    if name.lower().endswith(KINDS["safetensors"].endings):
        try:
            safetensors.segment(file, size)
        except InvalidFile as error:
            return f"not a whole safetensors file, stored as opaque bytes: {error.message}"
    return None
