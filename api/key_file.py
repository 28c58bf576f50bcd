"""A secret key in a file of its own, which only the owner of the vault may read.

A catalogue may have been readable by others for a while, and copies of it go to backups: whoever
knows the key of a server makes sessions and grants for every token. So the key lies beside a
catalogue in a file, and not in it. A key that others could read is generated again, which ends what
it signed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..dedup.errors import AccessRefused
from ..store.private import PRIVATE_UMASK

KEY_BYTES = 32
_KEY = re.compile(rb"[0-9a-f]{64}\n")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_log = logging.getLogger("weightvault.api")


def key_path(database: Path) -> Path:
    """Returns where the key of servers on a catalogue in a file lies."""
    return database.with_name(f"{database.name}.key")


def load_key(path: Path, umask: int = PRIVATE_UMASK) -> bytes:
    """Returns the key in the file `path`, drawn now where there is none that is secret.

    `umask`: the permissions that nobody may have on it. Raises AccessRefused where it cannot be
    read or made.
    """
    try:
        with _locked(path.parent):
            return _read_key(path, umask) or _draw_key(path, umask)
    except OSError as error:
        raise AccessRefused(
            f"cannot use the key of this server in {path}: {error.strerror}",
            "run the server as the user that the vault belongs to",
        ) from error


def _read_key(path: Path, umask: int) -> bytes | None:
    try:
        handle = os.open(path, _READ)
    except FileNotFoundError:
        return None
    with open(handle, "rb") as file:
        mode = os.fstat(handle).st_mode
        text = file.read(KEY_BYTES * 2 + 2) if stat.S_ISREG(mode) else b""
    if mode & umask & 0o077:
        _log.warning("others could read %s: the key is generated again, and sessions end", path)
        return None
    return bytes.fromhex(text.decode()) if _KEY.fullmatch(text) else None


def _draw_key(path: Path, umask: int) -> bytes:
    key = secrets.token_bytes(KEY_BYTES)
    temp = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        handle = os.open(temp, _NEW, 0o666 & ~umask)
        with open(handle, "wb") as file:
            file.write(f"{key.hex()}\n".encode())
            file.flush()
            os.fsync(handle)
        os.replace(temp, path)
    except BaseException:
        with suppress(OSError):
            temp.unlink()
        raise
    return key


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other servers of the same folder from drawing a key at the same time."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Some network file systems have no locks.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
