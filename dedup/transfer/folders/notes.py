"""Files that a user's pushes leave notes in for later ones: never needed, and never in a vault."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from blake3 import blake3

_FORGET_SECONDS = 90 * 24 * 3600


def note_name(*about: str) -> str:
    """Returns the name of the file with the note about something."""
    told = blake3()
    for each in about:
        # Paths may hold bytes that are no text.
        told.update(each.encode(errors="surrogateescape") + b"\0")
    return told.hexdigest()[:32]


def keep_note(file: Path, data: bytes) -> None:
    """Writes a note for this user alone, whole or not at all, and drops those that are old; where
    that cannot be done, it is not."""
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _forget_old(file.parent)
        temporary = file.parent / f".{token_hex(8)}"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "wb") as opened:
            opened.write(data)
        temporary.replace(file)


def _forget_old(folder: Path) -> None:
    oldest = time.time() - _FORGET_SECONDS
    for entry in os.scandir(folder):
        if entry.stat().st_mtime < oldest:
            os.unlink(entry)
