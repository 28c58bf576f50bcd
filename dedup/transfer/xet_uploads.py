"""What a server of the Xet protocol does with uploads: xorbs, then shards that make files of them.

    uploads = XetUploads(vault, IncomingFiles(vault))
    generation = uploads.open_generation("org")        # part of the address that clients are given
    uploads.add_xorb(generation, hash, path)           # verified and durable
    uploads.add_shard(generation, "org/model", data)   # its files are loose files from now on

Nothing a client says is believed: chunks, xorbs, files and the SHA-256 of files are hashed here.
A shard may only name xorbs of its own generation, so of its own owner.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ...store.cancel import check_cancelled
from ...store.catalogue.files.xorbs import (
    FileUse,
    Generation,
    XorbRow,
    add_file,
    add_marks,
    add_xorb,
    end_generation,
    find_file,
    find_generation,
    find_marked,
    find_xorbs,
    open_generation,
    release_covered,
    use_xorbs,
)
from ...store.catalogue.tables.rows import batches
from ...store.repo_names import namespace_of, namespace_prefixes
from ..errors import ChunksMissing, Conflict, InvalidUpload
from ..model.files.expansion import check_references
from ..reading.chunk_reader import Buffer
from ..repository.error_translation import store_errors
from ..repository.repository import Repository
from ..verification.scrub import scrub_chunks
from ..xet.hashes import TreeHasher, format_hash, hash_chunk, hash_range, hash_xorb
from ..xet.index import XorbIndex
from ..xet.shard import Shard, ShardFile
from ..xet.xorb import read_chunks
from .shard_budget import ShardBudget, end_of_work
from .uploads import IncomingFiles
from .xet_chunks import XorbLost, XorbObjects, sees

# A client that remembers nothing may ask for the first chunk of a file, and for every one whose
# hash is a multiple of this (https://huggingface.co/docs/xet/deduplication).
_MARK_EVERY = 1024

_AGAIN = "upload again: everything is sent anew then"

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
        with store_errors():
            prefixes = namespace_prefixes(owner)
            return open_generation(self._catalogue, owner, prefixes, self._now())

    def find_generation(self, name: str) -> Generation:
        """Returns the generation of that name. Raises Conflict if it is no longer the present."""
        with store_errors():
            found = find_generation(self._catalogue, name)
        if found is None:
            raise Conflict("what was uploaded to this address is not known any more", _AGAIN)
        return found

    # Xorbs

    def knows_xorb(self, generation: Generation, digest: bytes) -> bool:
        """Says whether a xorb was uploaded and is to be had still; if so, it stays for weeks."""
        with store_errors():
            row = find_xorbs(self._catalogue, generation, [digest]).get(digest)
            if row is None or not self._objects.has(generation, row):
                return False
            use_xorbs(self._catalogue, [row.id], self._now())
            return True

    def add_xorb(self, generation: Generation, digest: bytes, path: Path) -> bool:
        """Takes in the serialised xorb in the file `path`; returns whether it was new.

        Raises InvalidUpload unless its chunks hash to `digest`.
        """
        with (
            store_errors(),
            tempfile.TemporaryDirectory(prefix="xorb-", dir=self._scratch) as folder,
        ):
            raw = Path(folder, "chunks")
            index = _unpack_xorb(path, raw, digest)
            if self.knows_xorb(generation, digest):
                return False
            self._objects.put(generation, index, raw)
            now = self._now()
            sizes = (index.size, len(index), path.stat().st_size)
            add_xorb(self._catalogue, generation, digest, *sizes, now)
            marks = [chunk for chunk, _ in index.chunks() if _is_mark(chunk)]
            row = find_xorbs(self._catalogue, generation, [digest])[digest]
            add_marks(self._catalogue, row.id, marks)
        return True

    def find_marked(self, generation: Generation, chunk: bytes) -> XorbIndex | None:
        """Returns the index of a xorb that has a chunk, if clients may ask by it and the xorb is to
        be had; it stays for weeks then."""
        with store_errors():
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
            with store_errors():
                self._require({xorb.hash for xorb in shard.xorbs()}, generation)
                until = end_of_work(self._weigh(generation, shard))
                self._add_files(generation, repo, shard, until, on_file)
        except XorbLost as error:
            with store_errors():
                end_generation(self._catalogue, generation)
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
        for number, file in enumerate(shard.files()):
            if number >= done:
                self._budget.spend(key, number, total, until)
                self._add_file(generation, repo, file)
            on_file()
        self._budget.finish(key)

    def _add_file(self, generation: Generation, repo: str, file: ShardFile) -> None:
        xorbs = self._require({segment.xorb for segment in file.segments()}, generation)
        size = self._check_file(generation, file, xorbs)
        sha256 = self._keep_stored(generation, repo, file)
        if sha256 is None:
            chunks = self._read_file(generation, file, xorbs)
            stored = self.incoming.add(chunks, repo, sha256=file.sha256, size=size)
            sha256 = stored.sha256
        uses = list(_uses(file, xorbs))
        add_file(self._catalogue, generation, file.hash, sha256, size, uses, self._now())
        self._mark_start(generation, file, xorbs)
        self._release(generation, xorbs)

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

    def _keep_stored(self, generation: Generation, repo: str, file: ShardFile) -> bytes | None:
        """Keeps a file that was put together before and is still there; returns its SHA-256."""
        sha256 = find_file(self._catalogue, generation, file.hash)
        found = sha256 and self.incoming.find(sha256, sees(generation))
        if not found:
            return None
        if file.sha256 not in (None, sha256):
            raise InvalidUpload(f"file {format_hash(file.hash)} has another SHA-256 than stated")
        with suppress(ChunksMissing):
            return self.incoming.keep(found, repo).sha256
        return None

    def _read_file(self, generation: Generation, file: ShardFile, xorbs: Xorbs) -> Iterator[Buffer]:
        find = self._objects.finder(generation)
        for segment in file.segments():
            row = xorbs[segment.xorb]
            yield from self._objects.read(generation, row, segment.first, segment.stop, find)

    def _mark_start(self, generation: Generation, file: ShardFile, xorbs: Xorbs) -> None:
        segment = next(file.segments(), None)
        if segment is not None:
            index = self._objects.index(generation, segment.xorb)
            start = index.hashes(segment.first, segment.first + 1)
            add_marks(self._catalogue, xorbs[segment.xorb].id, [start])


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


def _is_mark(chunk: bytes) -> bool:
    return int.from_bytes(chunk[24:], "little") % _MARK_EVERY == 0


def _uses(file: ShardFile, xorbs: Xorbs) -> Iterator[FileUse]:
    offset = 0
    for segment in file.segments():
        yield FileUse(xorbs[segment.xorb].id, segment.first, segment.stop, offset)
        offset += segment.size
