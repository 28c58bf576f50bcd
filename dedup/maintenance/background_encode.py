"""Encodes uploads in the background, as a push would have, derives copies, and re-centres families.

The queue (store/catalogue/queues/encode_queue.py) holds what IncomingFiles stored raw, oldest
first.
`encode_some` takes a share of it that nobody else has, encodes each chunk alone and against the
best bases, and puts the smaller frame in use (store/catalogue/moved_frames.py). Chunks that wait
are nothing to code against: of a base and a fine-tune uploaded together, the one that came first is
coded alone, the other against it.

Bases are those that all owners of a chunk may read (store/catalogue/owners.py). A chunk that is a
delta on another one, because it got an owner or its base lost a reader, is in the queue, too: its
new frame is put in use whatever it takes.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...codecs.frame import parse_header
from ...store.cancel import Cancelled, CancelToken, check_cancelled
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.commits import commits_after
from ...store.catalogue.queues.encode_queue import (
    Ownership,
    allowed_bases,
    audit_some,
    bases_among,
    claim_chunks,
    first_commits,
    read_ownership,
    release_chunks,
    return_chunks,
    waiting_among,
)
from ...store.catalogue.sketches.sketches import FamilyRow
from ...store.catalogue.tables.rows import CommitRow, Location
from ..errors import Corrupt, Missing
from ..model.cards import CARD, MAX_CARD_HEAD_BYTES
from ..model.files.entries import ChunkUse
from ..model.files.manifest import Manifest
from ..model.inputs import CHAIN_LENGTH
from ..model.sketch import Sketch, make_query
from ..reading.chunk_reader import Base, Buffer, ChunkReader
from ..repository.repository import Repository
from ..similarity.base_selection import Lineage, choose_bases, find_lineage
from ..similarity.chain_choice import encode_best
from ..transfer.new_frames import TemporaryPack, put_in_use
from ..vault import BaseFinder, Candidate, RevisionReader
from .background_thread import BackgroundThread
from .collection.release import release_moved
from .derive import derive_chunks, derive_commit
from .optimise import recentre_chunks, recentre_step

# What is taken from the queue at a time: whoever dies holds no more up, for no longer.
SHARE_CHUNKS = 500
SHARE_BYTES = 128 * 1024 * 1024
CLAIM_SECONDS = 900.0
# What is checked at a time, once, when the first token is limited to a namespace.
AUDIT_CHUNKS = 2000

# In the thread that asks, so that its priority counts, and other cores are for requests.
_THREADS = 1

# Commits that wait to be looked at; those beyond are left to optimise.
_MOST_NOTED = 10_000


def encode_some(vault: Repository, level: str = "default") -> int:
    """Codes the chunks that have waited longest; returns how many were looked at, 0 if none waits
    that nobody else is at. Raises VaultError kinds; what was taken waits again after a while."""
    now = time.time()
    rows = claim_chunks(vault.catalogue, now, now + CLAIM_SECONDS, SHARE_CHUNKS, SHARE_BYTES)
    if not rows:
        # Only looked at: what has to be encoded again is claimed by the next call.
        return audit_some(vault.catalogue, AUDIT_CHUNKS)
    mine = [row.chunk_id for row in rows]
    try:
        _code(vault, rows, level)
    except Cancelled:
        return_chunks(vault.catalogue, mine)
        raise
    release_chunks(vault.catalogue, mine)
    derive_chunks(vault, rows)
    recentre_chunks(vault, set(mine))
    return len(rows)


class BackgroundEncoder(BackgroundThread):
    """A thread that encodes what waits and re-centres families that have doubled, until it is
    stopped; everything else goes before it. With `watch` it looks itself for commits that others
    record, who cannot tell it of them."""

    def __init__(
        self,
        vault: Repository,
        level: str = "default",
        *,
        within: CancelToken | None = None,
        watch: bool = False,
    ) -> None:
        super().__init__("encoder", "could not code uploads", within)
        self._vault = vault
        self._level = level
        # Repo and id of each commit, and how far it was looked at. Nothing depends on them: those
        # that are lost with the process are left to optimise.
        self._noted: deque[tuple[str, str, int]] = deque(maxlen=_MOST_NOTED)
        self._watch = watch
        self._seen: int | None = None

    def start(self) -> None:
        """Begins. Raises VaultError kinds where it watches and cannot."""
        if self._watch:
            self._seen, _ = commits_after(self._vault.catalogue, None, 0)
        super().start()

    def recentre_later(self, repo: str, commit: str) -> None:
        """Has the families looked at that the commit of this id may have doubled."""
        self._noted.append((repo, commit, 0))

    def _work(self) -> int:
        """Does some of what there is to do; returns how many chunks or commits it looked at."""
        if self._watch:
            # One that becomes visible after a younger one is left to optimise.
            self._seen, new = commits_after(self._vault.catalogue, self._seen, _MOST_NOTED)
            self._noted.extend((repo, commit, 0) for repo, commit in new)
        return encode_some(self._vault, self._level) or self._recentre_some()

    def _recentre_some(self) -> int:
        try:
            repo, commit, cursor = self._noted.popleft()
        except IndexError:
            return 0
        row = self._vault.catalogue.find_commit(repo, commit) if cursor == 0 else None
        if row is not None:
            derive_commit(self._vault, row, self._vault.load_manifest(row.manifest))
        step = recentre_step(self._vault, repo, commit, cursor)
        if step.cursor is not None:
            self._noted.appendleft((repo, commit, step.cursor))
        return 1


def _code(vault: Repository, rows: list[FamilyRow], level: str) -> None:
    places: list[Location] = []
    with TemporaryPack(vault, "code") as pack:
        owned = read_ownership(vault.catalogue, [row.chunk_id for row in rows])
        for row, frame in _encode(vault, rows, owned, level):
            if owned[row.chunk_id].violates or len(frame) < row.place.frame_bytes:
                pack.add(frame)
                places.append(row.place)
        if not places:
            return
        name = pack.store()
    # One by one: each may have found another place meanwhile.
    put_in_use(vault, name, [[place] for place in places])
    release_moved(vault, name, places)


def _encode(
    vault: Repository, rows: list[FamilyRow], owned: dict[int, Ownership], level: str
) -> Iterator[tuple[FamilyRow, Buffer]]:
    reader = ChunkReader(vault.fetch_frames)
    needed = bases_among(vault.catalogue, [row.place.digest for row in rows])
    # What was coded just now, and is standalone, is as good a base as any.
    alone: set[bytes] = set()
    for origin, mine in _by_commit(vault, rows, owned).items():
        jobs = _plan(vault, origin, mine, alone)
        for row in mine:
            check_cancelled()
            job = jobs[row.chunk_id]
            usable = [] if row.place.digest in needed else _usable(vault, job, alone)
            bases = _read_bases(reader, usable)
            # What a candidate is a delta on may be this very chunk, or somebody else's.
            named = {base.digest for base in bases} - {row.place.digest}
            allowed = allowed_bases(vault.catalogue, row.chunk_id, named)
            bases = [base for base in bases if base.digest in allowed]
            frame = encode_best(job.use, job.raw, bases, level, _THREADS)
            if parse_header(frame).base_digest is None:
                alone.add(job.use.digest)
            yield row, frame


def _by_commit(
    vault: Repository, rows: list[FamilyRow], owned: dict[int, Ownership]
) -> dict[_Origin, list[FamilyRow]]:
    """Returns the rows by the commit that brought them and who has them, in the order of the queue;
    the commit is None for those of a repo that was deleted this moment."""
    commits = first_commits(vault.catalogue, [row.chunk_id for row in rows])
    found: dict[_Origin, list[FamilyRow]] = defaultdict(list)
    for row in rows:
        mine = owned[row.chunk_id]
        found[_Origin(commits.get(row.chunk_id), mine.owners, mine.shown)].append(row)
    return found


@dataclass(frozen=True, slots=True)
class _Origin:
    """The commit that brought chunks, the namespaces that have them, and whether a public repo
    does."""

    commit: CommitRow | None
    owners: frozenset[str]
    shown: bool


@dataclass(frozen=True, slots=True)
class _Job:
    """A chunk to encode, its bytes, and what it may be coded against, best first."""

    use: ChunkUse
    raw: Buffer
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class _Settled:
    """Finds bases as `finder` does, but none that waits itself, unless it is among `coded`; so not
    the chunk that is asked for, either."""

    finder: BaseFinder
    catalogue: Catalogue
    coded: set[bytes]

    def find_bases(self, sketches: Sequence[Sketch]) -> list[tuple[Candidate, ...]]:
        """See BaseFinder.find_bases."""
        found = self.finder.find_bases(sketches)
        digests = {c.digest for candidates in found for c in candidates}
        waiting = waiting_among(self.catalogue, digests) - self.coded
        return [tuple(c for c in each if c.digest not in waiting) for each in found]


def _plan(
    vault: Repository, origin: _Origin, rows: list[FamilyRow], coded: set[bytes]
) -> dict[int, _Job]:
    """Returns the jobs by chunk id: bases are chosen for the commit as its push would have, within
    what all owners, and readers, may read."""
    commit = origin.commit
    raws = list(ChunkReader(vault.fetch_frames).read(map(_use, rows)))
    if commit is None:
        return {r.chunk_id: _Job(_use(r), raw, ()) for r, raw in zip(rows, raws, strict=True)}
    manifest = vault.load_manifest(commit.manifest)
    listed = (use for entry in manifest.files for use in entry.chunks(manifest.chunk_bytes))
    uses = {use.digest: use for use in listed}
    sketches = {
        row.place.digest: make_query(raw, uses[row.place.digest].dtype)
        for row, raw in zip(rows, raws, strict=True)
    }
    view = vault.for_owners(origin.owners, shown=origin.shown)
    settled = _Settled(view, vault.catalogue, coded)
    lineage = _lineage_of(vault, view, commit, manifest)
    chosen = choose_bases(settled, manifest, list(sketches), sketches, lineage)
    return {
        row.chunk_id: _Job(uses[row.place.digest], raw, chosen.get(row.place.digest, ()))
        for row, raw in zip(rows, raws, strict=True)
    }


def _lineage_of(
    vault: Repository, view: RevisionReader, commit: CommitRow, manifest: Manifest
) -> Lineage:
    card = manifest.file(CARD)
    with tempfile.TemporaryDirectory(prefix="card-", dir=vault.scratch) as folder:
        files: dict[str, Path] = {}
        if card is not None:
            files[CARD] = Path(folder, CARD)
            with files[CARD].open("wb") as file:
                stop = min(card.size, MAX_CARD_HEAD_BYTES)
                file.writelines(vault.read_entry(card, manifest.chunk_bytes, 0, stop))
        return find_lineage(view, files, commit.repo, commit.parent)


def _usable(vault: Repository, job: _Job, coded: set[bytes]) -> list[Candidate]:
    """Returns the candidates but those that wait themselves, unless they were coded just now."""
    waiting = waiting_among(vault.catalogue, [c.digest for c in job.candidates]) - coded
    return [c for c in job.candidates if c.digest not in waiting | {job.use.digest}]


def _read_bases(reader: ChunkReader, chosen: Sequence[Candidate]) -> list[Base]:
    """Returns what was chosen as bases, with what it rests on."""
    try:
        uses = (ChunkUse(c.digest, 0, c.size, "U8") for c in chosen)
        return [base for found in reader.read_bases(uses, CHAIN_LENGTH) for base in found]
    except (Missing, Corrupt):
        # Collected or damaged since it was named: alone, the chunk can always be coded.
        return []


def _use(row: FamilyRow) -> ChunkUse:
    return ChunkUse(row.place.digest, 0, row.place.raw_bytes, "U8")
