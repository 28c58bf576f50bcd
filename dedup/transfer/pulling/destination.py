"""The folder a pull writes to, used so that nothing that lies in it leads anywhere else.

Every name is opened relative to the folder above it and without following a link, from the
destination's own descriptor on. New bytes go to a file of a random name in one hidden folder of the
destination, and come to their name by renaming, which replaces a link instead of following it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ...errors import InvalidInput, VaultError
from ...model.paths import TEMPORARY_FOLDER

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe that lies there must not be waited for.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TEMPORARY_MODE = 0o700
_TEMPORARY_NAME = re.compile("[0-9a-f]{32}")
_NOT_A_FOLDER = (errno.ENOTDIR, errno.ELOOP)
_ATTEMPTS = 20

Identity = tuple[int, int]
"""Which file it is: device and inode."""


class Destination:
    """An open folder to write files below; made if it is not there. The path itself may be a link:
    the user named it. Not for several threads. Raises OSError, and InvalidInput for a link."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for part in (path, *path.parents):
            if part.exists() and not part.is_dir():
                raise InvalidInput(f"{part} is a file, not a folder", "name a folder to pull into")
        path.mkdir(parents=True, exist_ok=True)
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._temporary: int | None = None

    def __enter__(self) -> Destination:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._temporary is not None:
            _leave_temporary(self._root, self._temporary)
        os.close(self._root)

    @contextmanager
    def open_file(self, path: str) -> Iterator[BinaryIO | None]:
        """Gives the regular file at a path below the folder; None where there is none that may be
        read."""
        handle = self._open_regular(path)
        if handle is None:
            yield None
            return
        with open(handle, "rb") as file:
            yield file

    @contextmanager
    def new_file(self, path: str, *, executable: bool = False) -> Iterator[BinaryIO]:
        """Gives an empty file to write, which comes to its path if the block ends well. Folders on
        the way are made."""
        temporary = self._open_temporary()
        name = secrets.token_hex(16)
        # Not the private mode of the folder: what is pulled belongs to the user's umask.
        mode = 0o777 if executable else 0o666
        handle = os.open(name, _NEW, mode, dir_fd=temporary)
        try:
            with open(handle, "wb") as file:
                yield file
                file.flush()
                with self._folder_of(path, make=True) as (folder, last):
                    os.replace(name, last, src_dir_fd=temporary, dst_dir_fd=folder)
                name = None
        finally:
            if name is not None:
                with suppress(OSError):
                    os.unlink(name, dir_fd=temporary)

    def set_executable(self, path: str, executable: bool) -> None:
        """Lets those execute the file at a path who may read it, or nobody, where that is not so
        for its owner already."""
        with self.open_file(path) as file:
            if file is None:
                return
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if bool(mode & stat.S_IXUSR) != executable:
                readers = (mode & 0o444) >> 2
                os.fchmod(file.fileno(), mode | readers if executable else mode & ~0o111)

    def find(self, path: str) -> tuple[Identity, int] | None:
        """Returns identity and size of the regular file at a path, None where there is none."""
        try:
            with self._folder_of(path, make=False) as (folder, name):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return (status.st_dev, status.st_ino), status.st_size

    def _open_regular(self, path: str) -> int | None:
        try:
            with self._folder_of(path, make=False) as (folder, name):
                handle = os.open(name, _READ, dir_fd=folder)
        except OSError:
            # A link, a socket or something unreadable is replaced, as other bytes are.
            return None
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return handle
        os.close(handle)
        return None

    @contextmanager
    def _folder_of(self, path: str, *, make: bool) -> Iterator[tuple[int, str]]:
        """Gives a descriptor of the folder that a path's last part lies in, and that part."""
        *parts, name = path.split("/")
        handle = os.dup(self._root)
        try:
            for depth, part in enumerate(parts, 1):
                inner = self._enter(handle, "/".join(parts[:depth]), part, make=make)
                os.close(handle)
                handle = inner
            yield handle, name
        finally:
            os.close(handle)

    def _enter(self, folder: int, path: str, part: str, *, make: bool) -> int:
        if make:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=folder)
        try:
            return os.open(part, _FOLDER, dir_fd=folder)
        except OSError as error:
            if error.errno not in _NOT_A_FOLDER:
                raise
            raise self._in_the_way(folder, path, part) from error

    def _in_the_way(self, folder: int, path: str, part: str) -> VaultError:
        where = str(self.path / path)
        with suppress(OSError):
            if stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode):
                return InvalidInput(
                    f"{where!r} is a link, and files of the revision lie below it: "
                    "a pull follows no link out of its destination",
                    "remove the link, or pull into another folder",
                )
        return InvalidInput(
            f"{where!r} is no folder, and files of the revision lie below it",
            "remove or rename it, or pull into another folder",
        )

    def _open_temporary(self) -> int:
        """Returns the folder for what is not whole yet, without what killed pulls left there."""
        for _ in range(_ATTEMPTS):
            if self._temporary is not None:
                return self._temporary
            folder = self._enter_temporary()
            if _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                _sweep(folder)
            _lock(folder, fcntl.LOCK_SH)
            if os.fstat(folder).st_nlink:
                self._temporary = folder
            else:
                # Another pull ended and removed it between the two.
                os.close(folder)
        raise VaultError(f"other pulls keep removing {self.path / TEMPORARY_FOLDER}", "pull again")

    def _enter_temporary(self) -> int:
        with suppress(FileExistsError):
            os.mkdir(TEMPORARY_FOLDER, _TEMPORARY_MODE, dir_fd=self._root)
        return self._enter(self._root, TEMPORARY_FOLDER, TEMPORARY_FOLDER, make=False)


def _lock(folder: int, kind: int) -> bool:
    """Locks a folder against other pulls; says whether that worked. Several pulls share it; one
    alone may remove what it finds."""
    try:
        fcntl.flock(folder, kind)
    except OSError:
        return False
    return True


def _sweep(folder: int) -> None:
    """Removes the temporary files of pulls that were killed, and nothing else."""
    with suppress(OSError):
        for name in os.listdir(folder):
            if _TEMPORARY_NAME.fullmatch(name):
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)


def _leave_temporary(root: int, folder: int) -> None:
    """Removes the folder unless another pull uses it, or something else lies in it."""
    if _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
        with suppress(OSError):
            os.rmdir(TEMPORARY_FOLDER, dir_fd=root)
    os.close(folder)
