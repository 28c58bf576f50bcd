"""Files that arrived as bytes: written down, hashed, and taken apart whatever they are called."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from ...store.cancel import check_cancelled
from ..errors import Corrupt, InvalidFile, InvalidUpload
from ..formats.companions import REQUEST_READS, Places, find_companions
from ..formats.cutting.held import File, HeldFile, file_size
from ..formats.cutting.reader import Work
from ..formats.scan import scan_files
from ..model.files.manifest import Manifest
from ..model.files.segments import CHUNK_BYTES
from ..model.sketch_file import Sketches
from ..progress import Progress
from ..reading.chunk_reader import Buffer
from ..repository.file_hashes import git_hasher

NAME = "content"
"""What a file is called in its own manifest: the path it will have is not known yet."""

_READ_BYTES = 1 << 20


def spool(stream: Iterable[Buffer], path: Path, size: int | None) -> None:
    """Writes what arrives to a file. Raises InvalidUpload beyond `size` bytes, where known."""
    arrived = 0
    with path.open("wb") as file:
        for piece in stream:
            check_cancelled()
            arrived += len(piece)
            if size is not None and arrived > size:
                raise InvalidUpload(f"more than the {size} bytes announced arrived")
            file.write(piece)


def check_size(path: Path, size: int | None) -> None:
    """Raises InvalidUpload unless a file has `size` bytes, where that is known."""
    found = path.stat().st_size
    if size not in (None, found):
        raise InvalidUpload(f"{found} bytes arrived of a file of {size}", "send it again")


def hash_all(files: Iterable[File]) -> list[tuple[bytes, bytes]]:
    """As hash_file, of several."""
    return list(map(hash_file, files))


def hash_file(path: File) -> tuple[bytes, bytes]:
    """Returns the SHA-256 of a file and its SHA-1 as a git blob."""
    check_cancelled()
    sha256, git = hashlib.sha256(), git_hasher(file_size(path))
    if isinstance(path, HeldFile):
        sha256.update(path.data)
        git.update(path.data)
        return sha256.digest(), git.digest()
    with path.open("rb") as file:
        for data in _pieces(file):
            check_cancelled()
            sha256.update(data)
            git.update(data)
    return sha256.digest(), git.digest()


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(_READ_BYTES), b"")


def scan(
    files: Mapping[str, File], sketches: Sketches | None, places: Mapping[str, Places] | None = None
) -> Manifest:
    """Takes files apart, as a push does; see scan_files."""
    if places is None:
        places = find_companions(files, work=Work(REQUEST_READS))
    try:
        return scan_files(files, Progress(), CHUNK_BYTES, sketches, places=places)
    except InvalidFile as error:
        # Nobody but us writes to the folder they are in.
        raise Corrupt(f"an upload changed while it was read: {error.message}") from error
