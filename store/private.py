"""Files and folders of a vault, made so that nobody but their owner may read them.

`umask` has the permissions that nobody gets, as in umask(2); that of the process applies as well.
The catalogue lists what people keep and holds keys, and objects are their models, so by default
nothing is for the group or for others, whatever the process says.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

PRIVATE_UMASK = 0o077

# To list a folder, or to reach what lies in it.
_ENTER = 0o055
_OTHERS = 0o077


def folder_mode(umask: int) -> int:
    """Returns the mode of a new folder."""
    return 0o777 & ~umask


def opener(umask: int) -> Callable[[str, int], int]:
    """Returns what open() takes as `opener`, for a file that may be new."""
    return lambda path, flags: os.open(path, flags | os.O_CLOEXEC, 0o666 & ~umask)


def make_folder(path: Path, umask: int = PRIVATE_UMASK) -> None:
    """Makes a folder unless it is there; its parents as the process makes folders."""
    path.mkdir(folder_mode(umask), parents=True, exist_ok=True)


def make_empty_file(path: Path, umask: int = PRIVATE_UMASK) -> None:
    """Makes a file for a library that knows no modes, unless it is there or cannot be made: the
    library says what is wrong.

    A file that is there is not opened: closing it would drop the locks on it that this process has.
    """
    with suppress(OSError), open(path, "xb", opener=opener(umask)):
        pass


def find_exposed(paths: Iterable[Path], umask: int = PRIVATE_UMASK) -> list[Path]:
    """Returns those of the files and folders that lie in a folder others may enter, and that they
    may read themselves."""
    found = []
    for path in paths:
        with suppress(OSError):
            reachable = path.parent.stat().st_mode & umask & _ENTER
            if reachable and path.stat().st_mode & umask & _OTHERS:
                found.append(path)
    return found
