"""Cuts files of a commit again, where what is known now says that they are made of other parts than
when they came: by companions beside them, in other chunks, or without files that are gone."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import TooExpensive
from ..formats.companions import REQUEST_READS, find_companions, may_name_companions
from ..formats.cutting.held import SHORT_BYTES, File, HeldFile, Holder
from ..formats.cutting.reader import Work
from ..model.files.entries import FileEntry
from ..model.files.expansion import FREE_BYTES, check_files
from ..model.files.segments import CHUNK_BYTES, Literal, Share, cut_bytes, share_of
from ..model.files.shares import find_remainders
from ..reading.scratch import scratch_folder
from ..repository.repository import Repository
from .uploads import IncomingFiles

# An ONNX model whose tensors lie elsewhere is small, and a repo has dozens of variants of one; a
# commit waits while they are read and a companion is cut.
_MAX_INDEX_BYTES = 64 << 20
_MOST_INDEXES = 256
_MAX_COMPANION_BYTES = 2 << 30
# Companions that are cut together, so that many short ones go into one pack.
_BATCH_BYTES = 256 << 20
# Bundles that are stored again for one commit, which may be a few deletions: they lie in memory
# meanwhile, and are coded later on at some 2 MB/s.
_MAX_BUNDLED_BYTES = 1 << 20
# One file is a chunk of its own.
_LEAST_SHARES = 2


@dataclass(slots=True)
class _Room:
    """What of a repo one commit may read again: files that it changed, and `left` bytes of others,
    however many there are."""

    changed: set[str]
    left: int

    def takes(self, entry: FileEntry) -> bool:
        """Whether a file may be read, which then counts."""
        if entry.path in self.changed:
            return True
        if entry.size > self.left:
            return False
        self.left -= entry.size
        return True


def _batches(entries: Iterable[FileEntry]) -> Iterator[list[FileEntry]]:
    """Yields files in batches of up to _BATCH_BYTES, or of one."""
    batch: list[FileEntry] = []
    left = _BATCH_BYTES
    for entry in entries:
        if batch and entry.size > left:
            yield batch
            batch, left = [], _BATCH_BYTES
        batch.append(entry)
        left -= entry.size
    if batch:
        yield batch


class Recutting:
    """What is cut again for one commit to a repo, each file once however often it is tried."""

    def __init__(self, vault: Repository, incoming: IncomingFiles, repo: str) -> None:
        self._vault = vault
        self._incoming = incoming
        self._repo = repo
        # What was stored again, by the digest and more of what it was.
        self._cuts: dict[tuple[bytes, int], FileEntry] = {}
        # What shares of bundles became that were stored again together.
        self._bundled: dict[frozenset[Share | None], dict[bytes, FileEntry]] = {}

    def cut(self, files: Iterable[tuple[FileEntry, int]], changed: set[str]) -> Iterator[FileEntry]:
        """Yields files, given with what their chunks are cut at, as a commit has them that changed
        the paths `changed`."""
        listed = [self._cut(entry, chunk_bytes) for entry, chunk_bytes in files]
        return self._cut_companions(self._cut_bundles(listed), changed)

    def _cut_bundles(self, entries: Sequence[FileEntry]) -> list[FileEntry]:
        """Returns files, those that share a chunk with files that are gone in bundles without
        these, as many as one commit stores again: what was deleted does not live on beside them."""
        shares: set[Share] = set()
        left = _MAX_BUNDLED_BYTES
        for found in find_remainders(entries).values():
            left -= found[0].whole
            if left < 0:
                # The next commit, or push, goes on.
                break
            shares.update(found)
        shared = [entry for entry in entries if share_of(entry.segments) in shares]
        moved = self._bundle_again(shared) if shared else {}
        again = {entry.path for entry in shared}
        return [
            replace(e, segments=moved[e.digest].segments) if e.path in again else e for e in entries
        ]

    def _bundle_again(self, entries: Sequence[FileEntry]) -> dict[bytes, FileEntry]:
        """Stores shares of bundles once more, as those of others; returns them by their digest."""
        distinct = {entry.digest: entry for entry in reversed(entries)}
        key = frozenset(share_of(entry.segments) for entry in entries)
        if key not in self._bundled:
            read = self._vault.read_files(distinct.values(), CHUNK_BYTES)
            files = {entry.path: HeldFile(b"".join(pieces)) for entry, pieces in read}
            # Nothing lies in them that a neighbour tells of, or they were no shares.
            staged = self._incoming.stage(files, self._repo, places={}, bundled_from=_LEAST_SHARES)
            self._bundled[key] = {each.entry.digest: each.entry for each in staged}
        return self._bundled[key]

    def _cut_companions(
        self, entries: Sequence[FileEntry], changed: set[str]
    ) -> Iterator[FileEntry]:
        """Yields files, those in which a neighbour says that tensors lie cut by what it says: they
        may have come before it, or apart from it."""
        folders = {posixpath.dirname(path) for path in changed}
        indexes = [
            entry
            for entry in entries
            if may_name_companions(entry.path)
            and entry.size <= _MAX_INDEX_BYTES
            and (entry.path in changed or posixpath.dirname(entry.path) in folders)
        ]
        room = _Room(changed, FREE_BYTES)
        # What was changed first: it is what the others are read for, if at all.
        indexes.sort(key=lambda entry: entry.path not in changed)
        indexes = [entry for entry in indexes if room.takes(entry)][:_MOST_INDEXES]
        placed = self._stage_companions(indexes, entries, room) if indexes else {}
        for entry in entries:
            found = placed.get(entry.path)
            yield entry if found is None else replace(found, path=entry.path)

    def _stage_companions(
        self, indexes: Sequence[FileEntry], entries: Sequence[FileEntry], room: _Room
    ) -> dict[str, FileEntry]:
        # What has tensors of its own, or was cut so before, stays as it is.
        opaque = {
            entry.path: entry
            for entry in entries
            if entry.size <= _MAX_COMPANION_BYTES and next(entry.tensors, None) is None
        }
        with scratch_folder("companions-", self._vault.scratch) as folder:
            files = self._write_out(indexes, folder, "index")
            others = opaque.keys() - files.keys()
            placed = find_companions(files, others, Work(REQUEST_READS))
            wanted = [path for path in placed if path in others and room.takes(opaque[path])]
            try:
                found = [opaque[path] for path in wanted]
                check_files(found, CHUNK_BYTES, self._vault.catalogue.locate)
            except TooExpensive:
                # Kept as they are: files that repeat themselves cost nothing to send.
                return {}
            known = b"".join(sorted(entry.digest for entry in indexes))
            keys = {path: (opaque[path].digest + known, CHUNK_BYTES) for path in wanted}
            uncut = {keys[path]: opaque[path] for path in wanted if keys[path] not in self._cuts}
            for batch in _batches(uncut.values()):
                data = self._write_out(batch, folder, "data")
                # What the indexes say is known: to read them again for each file is not to end.
                for staged in self._incoming.stage(data, self._repo, places=placed):
                    self._cuts[keys[staged.entry.path]] = staged.entry
                for file in data.values():
                    if isinstance(file, Path):
                        file.unlink()
            return {path: self._cuts[keys[path]] for path in wanted}

    def _write_out(self, entries: Sequence[FileEntry], folder: Path, kind: str) -> dict[str, File]:
        """Reads files, long ones into a folder of ours, under names that say their `kind`; returns
        where each is."""
        found: dict[str, File] = {}
        holder = Holder(folder)
        for entry, pieces in self._vault.read_files(entries, CHUNK_BYTES):
            if entry.size <= SHORT_BYTES:
                found[entry.path] = holder.keep(b"".join(pieces))
                continue
            path = found[entry.path] = folder / f"{kind}-{len(found)}"
            with path.open("wb") as file:
                file.writelines(pieces)
        return found

    def _cut(self, entry: FileEntry, chunk_bytes: int) -> FileEntry:
        """Returns a file cut at CHUNK_BYTES: stored again if it was pushed with other chunks,
        unless that was done for this commit."""
        runs = (s for s in entry.segments if not isinstance(s, Literal))
        if chunk_bytes == CHUNK_BYTES or all(s.size <= cut_bytes(s, chunk_bytes) for s in runs):
            return entry
        key = (entry.digest, chunk_bytes)
        if key not in self._cuts:
            with scratch_folder("cut-", self._vault.scratch) as folder:
                path = folder / "file"
                with path.open("wb") as file:
                    file.writelines(self._vault.read_entry(entry, chunk_bytes, 0, entry.size))
                (staged,) = self._incoming.stage({entry.path: path}, self._repo)
            self._cuts[key] = staged.entry
        return replace(self._cuts[key], path=entry.path)
