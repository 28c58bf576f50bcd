"""What a server of the Xet protocol does with uploads: xorbs, then shards that make files of them.

    uploads = XetUploads(vault, IncomingFiles(vault))
    generation = uploads.open_generation("org")        # part of the address that clients are given
    uploads.add_xorb(generation, hash, path)           # verified and durable
    uploads.add_shard(generation, "org/model", data)   # its files are loose files from now on

Nothing a client says is believed: chunks, xorbs, files and the SHA-256 of files are hashed here.
A shard may only name xorbs of its own generation, so of its own owner.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from ...store.cancel import check_cancelled
from ...store.catalogue.files.xorbs import (
    FileUse,
    Generation,
    NewFile,
    XorbRow,
    add_files,
    add_marks,
    add_xorb,
    end_generation,
    find_files,
    find_generation,
    find_marked,
    find_xorbs,
    open_generation,
    release_covered,
    use_xorbs,
)
from ...store.catalogue.tables.rows import batches
from ...store.repo_names import namespace_of, namespace_prefixes
from ..errors import ChunksMissing, Conflict, InvalidUpload, Unreachable
from ..model.files.expansion import check_references
from ..reading.chunk_reader import Buffer
from ..reading.scratch import scratch_folder
from ..repository.repository import Repository
from ..verification.scrub import scrub_chunks
from ..xet.hashes import TreeHasher, format_hash, hash_chunk, hash_range, hash_xorb
from ..xet.index import XorbIndex
from ..xet.shard import Shard, ShardFile
from ..xet.xorb import read_chunks
from .shard_budget import ShardBudget, end_of_work
from .uploads import IncomingFiles, Upload
from .xet_chunks import XorbLost, XorbObjects, sees

# A client that remembers nothing may ask for the first chunk of a file, and for every one whose
# hash is a multiple of this (https://huggingface.co/docs/xet/deduplication).
_MARK_EVERY = 1024

# Files of a shard that are stored in one transaction: a statement takes about as long for all of
# them as for one. So many entries of the journal are written within it.
_BATCH_FILES = 32
_BATCH_BYTES = 4 << 20
# After so many bytes of files, it is looked for xorbs that can be read from files.
_RELEASE_BYTES = 64 << 20

_AGAIN = "upload again: everything is sent again then"

Xorbs = dict[bytes, XorbRow]


class XetUploads:
    """Takes in xorbs and shards for a vault; safe to use from several threads.

    `incoming` stores the files. `now` is a clock in Unix seconds. Methods raise VaultError kinds.
    """

    def __init__(
        self,
        vault: Repository,
        incoming: IncomingFiles,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._vault = vault
        self._catalogue = vault.catalogue
        self._scratch = vault.scratch
        self.incoming = incoming
        self._objects = XorbObjects(vault.backend, vault.catalogue, incoming)
        self._now = now
        self._budget = ShardBudget()

    # Generations

    def open_generation(self, owner: str) -> Generation:
        """Returns the present generation of a namespace, a new one where something of the last can
        no longer be read: clients count on what they once sent to an address."""
        prefixes = namespace_prefixes(owner)
        return open_generation(self._catalogue, owner, prefixes, self._now())

    def find_generation(self, name: str) -> Generation:
        """Returns the generation of that name, which may have ended: uploads that are under way go
        on. Raises Conflict where it is not known."""
        found = find_generation(self._catalogue, name)
        if found is None:
            raise Conflict("what was uploaded to this address is not known any more", _AGAIN)
        return found

    # Xorbs

    def knows_xorb(self, generation: Generation, digest: bytes) -> bool:
        """Says whether a xorb was uploaded and is to be had still; if so, it stays for weeks."""
        row = find_xorbs(self._catalogue, generation, [digest]).get(digest)
        if row is None or not self._objects.has(generation, row):
            return False
        use_xorbs(self._catalogue, [row.id], self._now())
        return True

    def add_xorb(self, generation: Generation, digest: bytes, path: Path) -> bool:
        """Takes in the serialised xorb in the file `path`; returns whether it was new.

        Raises InvalidUpload unless its chunks hash to `digest`.
        """
        with scratch_folder("xorb-", self._scratch) as folder:
            raw = folder / "chunks"
            index = _unpack_xorb(path, raw, digest)
            if self.knows_xorb(generation, digest):
                return False
            self._objects.put(generation, index, raw)
            now = self._now()
            sizes = (index.size, len(index), path.stat().st_size)
            add_xorb(self._catalogue, generation, digest, *sizes, now)
            row = find_xorbs(self._catalogue, generation, [digest])[digest]
            marks = [(row.id, chunk) for chunk, _ in index.chunks() if _is_mark(chunk)]
            add_marks(self._catalogue, marks)
        return True

    def find_marked(self, generation: Generation, chunk: bytes) -> XorbIndex | None:
        """Returns the index of a xorb that has a chunk, if clients may ask by it and the xorb is to
        be had; it stays for weeks then."""
        row = find_marked(self._catalogue, generation, chunk)
        if row is None or not self.knows_xorb(generation, row.hash):
            return None
        return self._objects.index(generation, row.hash)

    # Shards

    def add_shard(
        self,
        generation: Generation,
        repo: str,
        shard: Shard,
        on_file: Callable[[], None] = lambda: None,
    ) -> None:
        """Puts together the files of a shard and keeps them as loose files of `repo`; calls
        `on_file` after each.

        Raises InvalidUpload where the shard lies; TooExpensive where its files repeat what was sent
        too often; Unreachable where it has so many files that the same request must be sent again
        to go on (shard_budget.py); Conflict where it names chunks that are not to be had, which
        ends the generation: only then do clients send them again.
        """
        assert namespace_of(repo) == generation.owner
        try:
            self._require({xorb.hash for xorb in shard.xorbs()}, generation)
            until = end_of_work(self._weigh(generation, shard))
            self._add_files(generation, repo, shard, until, on_file)
        except XorbLost as error:
            end_generation(self._catalogue, generation, self._now())
            # What is on record as damaged counts as missing, and is mended by the next try.
            scrub_chunks(self._vault, error.digests)
            raise Conflict(str(error), _AGAIN) from error

    def _require(self, wanted: set[bytes], generation: Generation) -> Xorbs:
        """Returns the rows of xorbs. Raises XorbLost if one is not known."""
        found: Xorbs = {}
        for batch in batches(list(wanted)):
            found |= find_xorbs(self._catalogue, generation, batch)
            absent = [digest for digest in batch if digest not in found]
            if absent:
                raise XorbLost(f"xorb {format_hash(absent[0])} is not here")
        return found

    def _weigh(self, generation: Generation, shard: Shard) -> int:
        """Returns the bytes of a shard's xorbs, as they were sent. Raises TooExpensive unless its
        files are in proportion to them. Sizes are taken as stated: each is looked at before
        anything is done for it."""
        logical = chunks = 0
        wanted: set[bytes] = set()
        for file in shard.files():
            check_cancelled()
            for segment in file.segments():
                logical += segment.size
                chunks += max(0, segment.stop - segment.first)
                wanted.add(segment.xorb)
        sent = sum(row.sent for row in self._require(wanted, generation).values())
        check_references(logical, chunks, sent)
        return sent

    def _add_files(
        self,
        generation: Generation,
        repo: str,
        shard: Shard,
        until: float,
        on_file: Callable[[], None],
    ) -> None:
        key = shard.digest(generation.name.encode(), repo.encode())
        done, total = self._budget.files_done(key), sum(1 for _ in shard.files())
        touched: Xorbs = {}
        waiting = 0
        for _ in range(done):
            on_file()
        try:
            for batch in _batches(islice(shard.files(), done, None)):
                self._budget.spend(key, done, total, until)
                touched |= self._add_batch(generation, repo, batch)
                done += len(batch)
                for _ in batch:
                    on_file()
                # Not after each of many short ones: it reads all that was made of these xorbs.
                waiting += sum(map(_size_of, batch))
                if waiting >= _RELEASE_BYTES:
                    self._release(generation, touched)
                    touched, waiting = {}, 0
        except Unreachable:
            self._release(generation, touched)
            raise
        self._release(generation, touched)
        self._budget.finish(key)

    def _add_batch(self, generation: Generation, repo: str, files: Sequence[ShardFile]) -> Xorbs:
        """Stores files and puts them on record; returns the xorbs that they are made of."""
        wanted = {segment.xorb for file in files for segment in file.segments()}
        xorbs = self._require(wanted, generation)
        sizes = {file.hash: self._check_file(generation, file, xorbs) for file in files}
        different = {file.hash: file for file in files}
        stored = self._keep_stored(generation, repo, different)
        missing = [file for file in different.values() if file.hash not in stored]
        uploads = (
            Upload(self._read_file(generation, each, xorbs), each.sha256, sizes[each.hash])
            for each in missing
        )
        if missing:
            made = self.incoming.add_all(uploads, repo)
            stored |= {each.hash: f.sha256 for each, f in zip(missing, made, strict=True)}
        for file in files:
            if file.sha256 not in (None, stored[file.hash]):
                raise InvalidUpload(
                    f"file {format_hash(file.hash)} has another SHA-256 than stated"
                )
        new = [
            NewFile(digest, stored[digest], sizes[digest], list(_uses(file, xorbs)))
            for digest, file in different.items()
        ]
        add_files(self._catalogue, generation, new, self._now())
        add_marks(self._catalogue, list(self._starts(generation, different.values(), xorbs)))
        return xorbs

    def _release(self, generation: Generation, xorbs: Xorbs) -> None:
        """Drops the chunks that can be read from files from now on."""
        ids = [row.id for row in xorbs.values() if row.kept]
        prefixes = namespace_prefixes(generation.owner)
        for row in release_covered(self._catalogue, generation, ids, prefixes, self._now()):
            self._objects.drop_data(generation, row)

    def _check_file(self, generation: Generation, file: ShardFile, xorbs: Xorbs) -> int:
        """Returns the bytes of a file. Raises InvalidUpload unless all its records are true."""
        name = format_hash(file.hash)
        tree, size = TreeHasher(), 0
        for segment in file.segments():
            check_cancelled()
            index = self._objects.index(generation, xorbs[segment.xorb].hash)
            first, stop = segment.first, segment.stop
            if not first < stop <= len(index):
                raise InvalidUpload(f"file {name}: xorb without the chunks [{first}, {stop})")
            if segment.size != index.offset(stop) - index.offset(first):
                raise InvalidUpload(f"file {name}: a segment has not {segment.size} bytes")
            if segment.proof != hash_range(index.hashes(first, stop)):
                raise InvalidUpload(f"file {name}: a segment without proof of its chunks")
            for chunk, chunk_bytes in index.chunks(first, stop):
                tree.add(chunk, chunk_bytes)
            size += segment.size
        if tree.file_hash() != file.hash:
            raise InvalidUpload(f"the segments of file {name} do not make it up")
        return size

    def _keep_stored(
        self, generation: Generation, repo: str, files: Mapping[bytes, ShardFile]
    ) -> dict[bytes, bytes]:
        """Keeps those of the files that were put together before and are still there; returns
        their SHA-256."""
        kept: dict[bytes, bytes] = {}
        for digest, sha256 in find_files(self._catalogue, generation, list(files)).items():
            found = self.incoming.find(sha256, sees(generation))
            if not found:
                continue
            if files[digest].sha256 not in (None, sha256):
                raise InvalidUpload(f"file {format_hash(digest)} has another SHA-256 than stated")
            with suppress(ChunksMissing):
                kept[digest] = self.incoming.keep(found, repo).sha256
        return kept

    def _read_file(self, generation: Generation, file: ShardFile, xorbs: Xorbs) -> Iterator[Buffer]:
        find = self._objects.finder(generation)
        for segment in file.segments():
            row = xorbs[segment.xorb]
            yield from self._objects.read(generation, row, segment.first, segment.stop, find)

    def _starts(
        self, generation: Generation, files: Iterable[ShardFile], xorbs: Xorbs
    ) -> Iterator[tuple[int, bytes]]:
        """Yields the xorb, by its id, and the hash of the first chunk of each file."""
        for file in files:
            segment = next(file.segments(), None)
            if segment is not None:
                index = self._objects.index(generation, segment.xorb)
                start = index.hashes(segment.first, segment.first + 1)
                yield xorbs[segment.xorb].id, start


def _unpack_xorb(path: Path, raw: Path, digest: bytes) -> XorbIndex:
    """Writes the chunks of a serialised xorb to the file `raw` and returns its index."""
    chunks: list[tuple[bytes, int]] = []
    with path.open("rb") as source, raw.open("wb") as target:
        for chunk in read_chunks(source):
            check_cancelled()
            chunks.append((hash_chunk(chunk), len(chunk)))
            target.write(chunk)
    if hash_xorb(chunks) != digest:
        raise InvalidUpload(f"the chunks that arrived are not those of xorb {format_hash(digest)}")
    return XorbIndex(digest, chunks)


def _batches(files: Iterable[ShardFile]) -> Iterator[list[ShardFile]]:
    """Gathers short files that follow each other; others come alone."""
    batch: list[ShardFile] = []
    total = 0
    for file in files:
        size = _size_of(file)
        if batch and (len(batch) >= _BATCH_FILES or total + size > _BATCH_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(file)
        total += size
    if batch:
        yield batch


def _size_of(file: ShardFile) -> int:
    return sum(segment.size for segment in file.segments())


def _is_mark(chunk: bytes) -> bool:
    return int.from_bytes(chunk[24:], "little") % _MARK_EVERY == 0


def _uses(file: ShardFile, xorbs: Xorbs) -> Iterator[FileUse]:
    offset = 0
    for segment in file.segments():
        yield FileUse(xorbs[segment.xorb].id, segment.first, segment.stop, offset)
        offset += segment.size
