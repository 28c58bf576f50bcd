"""Where a pull has chunks from: a server, what is on this machine already, or a vault at hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ...model.files.entries import FileEntry
from ...model.files.manifest import Manifest
from ...reading.chunk_reader import ChunkReader
from ...reading.held.chunk_cache import ChunkCache
from ...reading.held.held_chunks import HeldChunks
from ...reading.held.likeness import find_likenesses
from ...reading.held.local_files import LocalFiles
from ...vault import FarReader, RevisionReader, Snapshot
from .destination import Destination

# Names looked at below a folder that may be used again.
_MOST_NAMES = 200_000


@dataclass(slots=True)
class PullSource:
    """What decodes the chunks of a pull."""

    reader: ChunkReader
    held: HeldChunks | None = None
    local: LocalFiles | None = None

    @property
    def received(self) -> int:
        """Bytes of frames that came from the vault."""
        return self.reader.received if self.held is None else self.held.received

    @property
    def reused(self) -> int:
        """Raw bytes of chunks that did not have to."""
        return 0 if self.held is None else self.held.reused

    def close(self) -> None:
        """Writes what is to be kept for later, and closes files."""
        if self.held is not None:
            self.held.close()
        if self.local is not None:
            self.local.close()


def open_source(
    vault: RevisionReader,
    snapshot: Snapshot,
    wanted: Sequence[FileEntry],
    target: Destination,
    cache: ChunkCache | None,
    reuse: Sequence[Path],
) -> PullSource:
    """Returns what gives the chunks of the files `wanted` of a commit."""
    # The commit, not the branch: it may move while this runs.
    repo, commit = snapshot.commit.repo, snapshot.commit.id
    if not isinstance(vault, FarReader):
        return PullSource(ChunkReader(lambda digests: vault.read_frames(repo, commit, digests)))
    local = _find_local(snapshot.manifest, wanted, target, reuse)
    likenesses = find_likenesses(wanted, snapshot.manifest.chunk_bytes)
    held = HeldChunks(lambda: vault, repo, commit, likenesses, cache=cache, local=local)
    return PullSource(ChunkReader(held.fetch, keep=held.keep), held, local)


def _find_local(
    manifest: Manifest, wanted: Sequence[FileEntry], target: Destination, reuse: Sequence[Path]
) -> LocalFiles:
    local = LocalFiles(manifest.chunk_bytes)
    # As long as files may be open, the longest are worth most.
    for entry in sorted(wanted, key=lambda entry: -entry.size):
        with target.open_file(entry.path) as file:
            if file is not None:
                local.add(entry.path, os.fdopen(os.dup(file.fileno()), "rb"))
    names = {entry.path.rpartition("/")[2]: entry.path for entry in wanted}
    for folder in reuse:
        for name, path in _find_files(folder, names.__contains__):
            file = _open(path)
            if file is not None:
                local.add(names[name], file)
    return local


def _find_files(folder: Path, wants: Callable[[str], bool]) -> Iterator[tuple[str, Path]]:
    """Yields files below a folder that the user named, by their names; a cache of huggingface_hub
    has links to them."""
    seen = 0
    for parent, _, files in os.walk(folder):
        seen += len(files) + 1
        if seen > _MOST_NAMES:
            return
        yield from ((name, Path(parent, name)) for name in sorted(files) if wants(name))


def _open(path: Path) -> BinaryIO | None:
    with suppress(OSError):
        if path.is_file():
            return path.open("rb")
    return None
