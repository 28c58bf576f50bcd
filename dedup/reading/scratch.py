"""Temporary folders, for what is too long to be held in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...store.errors import FULL_ERRNOS
from ..errors import StorageFull


@contextmanager
def scratch_folder(prefix: str, parent: Path | None) -> Iterator[Path]:
    """Gives a folder of its own in `parent`, or in the system's place for such; it is removed with
    all that is in it on every way out. Raises StorageFull where its disk is full."""
    try:
        with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as folder:
            yield Path(folder)
    except OSError as error:
        if error.errno not in FULL_ERRNOS:
            raise
        raise StorageFull(f"cannot write {error.filename or 'a temporary file'}") from error
