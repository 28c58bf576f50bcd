"""Objects as files below one folder, written so that a power cut leaves the old or the new one."""

import errno
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from ..backend import (
    RESERVED_SEGMENT,
    Backend,
    BytesLike,
    ObjectInfo,
    byte_view,
    check_key,
    check_prefix,
    is_key,
    resolve_range,
)
from ..errors import InvalidKey, NoSuchStore, NotFound, StoreError, from_os_error
from ..private import PRIVATE_UMASK, folder_mode, opener

# Large enough that system calls cost nothing beside the copying, small enough to stay in cache.
COPY_BYTES = 1 << 20
# No single write takes a day, so an older temporary file has lost its writer.
STALE_SECONDS = 24 * 3600


class LocalBackend(Backend):
    """A folder. It is made by the first put, so reading from a mistyped path leaves no trace.

    `fsync=False` gives up durability (not atomicity), for tests and throw-away stores. `umask`:
    the permissions that new files and folders lack, as in store/private.py.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        fsync: bool = True,
        umask: int = PRIVATE_UMASK,
    ) -> None:
        self.root = Path(root).absolute()
        self._fsync = fsync
        self._folder_mode = folder_mode(umask)
        self._opener = opener(umask)
        self._temp = self.root / RESERVED_SEGMENT
        self._known_folders: set[Path] = set()
        if self.root.exists() and not self.root.is_dir():
            raise NoSuchStore(f"{self.root} is not a folder")
        self._sweep_temp()

    def put(self, key: str, data: BytesLike) -> None:
        target = self._path(key)
        view = byte_view(data)
        self._write_durably(target, [view], len(view))

    def put_file(self, key: str, path: str | os.PathLike[str]) -> None:
        target = self._path(key)
        with open(path, "rb") as source:
            size = os.fstat(source.fileno()).st_size
            self._write_durably(target, iter(lambda: source.read(COPY_BYTES), b""), size)

    def put_new(self, key: str, data: BytesLike) -> bool:
        target = self._path(key)
        view = byte_view(data)
        try:
            self._write_durably(target, [view], len(view), place=_link)
        except _TakenError:
            return False
        return True

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        with self._reading(key) as path, open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start, stop = resolve_range(key, size, start, stop)
            file.seek(start)
            data = file.read(stop - start)
        if len(data) < stop - start:
            # It became shorter while it was read.
            resolve_range(key, start + len(data), start, stop)
        return data

    def free_bytes(self) -> int | None:
        # Folders are made with the first object.
        there = next(folder for folder in (self.root, *self.root.parents) if folder.exists())
        return shutil.disk_usage(there).free

    def size(self, key: str) -> int:
        with self._reading(key) as path:
            status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise NotFound(f"no such object: {key}")
        return status.st_size

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except NotFound:
            return False
        return True

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        return self._walk("", prefix, after)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _os_errors(f"cannot delete {path}"), suppress(*_ABSENT):
            path.unlink()
            self._sync_folder(path.parent)

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    @contextmanager
    def _reading(self, key: str) -> Iterator[Path]:
        path = self._path(key)
        with _os_errors(f"cannot read {path}"):
            try:
                yield path
            except _ABSENT:
                raise NotFound(f"no such object: {key}") from None

    def _write_durably(
        self,
        target: Path,
        chunks: Iterable[BytesLike],
        size: int,
        place: Callable[[Path, Path], None] | None = None,
    ) -> None:
        """Writes a temporary file, checks its length, syncs it, renames it, syncs the folder.

        `place`: puts it where it belongs in some other way than by renaming it.
        """
        temp = self._temp / uuid4().hex
        try:
            with _os_errors(f"cannot write {target}"):
                self._make_temp()
                with open(temp, "xb", opener=self._opener) as file:
                    file.writelines(chunks)
                    file.flush()
                    if os.fstat(file.fileno()).st_size != size:
                        raise StoreError(f"{target.name}: its source changed while it was stored")
                    if self._fsync:
                        os.fsync(file.fileno())
                self._make_folder(target.parent)
                (place or os.replace)(temp, target)
                self._sync_folder(target.parent)
        except BaseException:
            with suppress(OSError):
                temp.unlink()
            raise

    def _make_temp(self) -> None:
        try:
            self._make_folder(self._temp)
        except (FileExistsError, NotADirectoryError) as error:
            raise NoSuchStore(f"cannot keep objects in {self.root}: {error.strerror}") from error

    def _make_folder(self, folder: Path) -> None:
        """Makes a folder and its parents, durably.

        One below the root that is found in place is synced too, once: whoever made it may not have
        come to that.
        """
        if folder in self._known_folders:
            return
        if self.root in folder.parents or not folder.exists():
            self._make_folder(folder.parent)
            folder.mkdir(self._folder_mode, exist_ok=True)
            self._sync_folder(folder.parent)
        self._known_folders.add(folder)

    def _sync_folder(self, folder: Path) -> None:
        if not self._fsync:
            return
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _walk(self, folder: str, prefix: str, after: str) -> Iterator[ObjectInfo]:
        """Yields the objects of a folder ("" or ending in "/") and those below it."""
        for name, entry in _read_folder(self.root, folder):
            if name.endswith("/"):
                if _may_hold(name, prefix, after):
                    yield from self._walk(name, prefix, after)
            elif name.startswith(prefix) and name > after:
                # The file may be gone since the folder was read.
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    yield ObjectInfo(name, status.st_size, status.st_mtime)

    def _sweep_temp(self) -> None:
        """Removes temporary files whose writers died. Never fails: it is not needed."""
        with suppress(OSError):
            for path in self._temp.iterdir():
                if path.stat().st_mtime < time.time() - STALE_SECONDS:
                    path.unlink()


class _TakenError(Exception):
    """There is a file of that name."""


def _link(temp: Path, target: Path) -> None:
    """Renames a file unless the name is taken, in one step, which renaming itself cannot do."""
    try:
        os.link(temp, target)
    except FileExistsError:
        if target.is_file():
            raise _TakenError from None
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Nothing closes the moment between these two where there are no hard links.
        if target.is_file():
            raise _TakenError from None
        os.replace(temp, target)
        return
    temp.unlink()


# What file systems without hard links answer: FAT, some on the network.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}

_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def _read_folder(root: Path, folder: str) -> list[tuple[str, os.DirEntry[str]]]:
    """Returns what lies in a folder, in the order of the keys, folders with a final "/"."""
    path = root / folder
    with _os_errors(f"cannot list {path}"):
        try:
            with os.scandir(path) as entries:
                names = [
                    (folder + entry.name + "/" * entry.is_dir(), entry)
                    for entry in entries
                    if is_key(folder + entry.name)
                ]
        except _ABSENT:
            return []
    return sorted(names, key=lambda pair: pair[0])


def _may_hold(folder: str, prefix: str, after: str) -> bool:
    wanted = folder.startswith(prefix) or prefix.startswith(folder)
    return wanted and (folder > after or after.startswith(folder))


@contextmanager
def _os_errors(doing: str) -> Iterator[None]:
    """Raises what the operating system reports as the store's own errors."""
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise InvalidKey(f"{doing}: a key cannot also be the folder of another") from error
    except OSError as error:
        raise from_os_error(error, doing) from error
