"""The way in: files to segments to chunks to frames to packs to a commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from ...store.packs import PackWriter
from ..errors import BaseMissing, ChunksMissing, Corrupt, InvalidFrame, Missing, VaultError
from ..model.files.entries import ChunkUse
from ..model.files.expansion import FREE_PACK_BYTES, USE_BYTES
from ..model.files.manifest import Manifest
from ..model.files.segments import CHUNK_BYTES
from ..model.history import PushResult
from ..model.inputs import CHAIN_LENGTH
from ..model.names import check_branch, check_repo
from ..model.sketch_file import Sketches
from ..progress import Progress
from ..reading.chunk_reader import Base, Buffer, ChunkReader
from ..reading.scratch import scratch_folder
from ..reading.timed_codecs import read_header
from ..reading.warmup import prepare_kernels
from ..reading.workers import Background, result_of
from ..repository.pack_writing import PACK_BYTES, add_frame
from ..similarity.base_selection import Lineage, choose_bases, find_base
from ..similarity.chain_choice import encode_best
from ..vault import Candidate, Commit, OwnUpkeep, PackSink, PushTarget, PushView, RevisionReader
from .folders.memory import ScanMemory
from .folders.rules import Rules
from .folders.scan_folder import scan_folder
from .folders.survey import Survey, survey_checked
from .sources import Job, Source, list_jobs, read_job

# Digests per question; the answer to one is at most 640 KB of JSON.
_ASK_DIGESTS = 10_000
# Re-encoding relatives takes as long as the push itself at most; the rest is for optimise.
_RECENTRE_SHARE = 1.0
# Less is coded as fast as kernels are loaded.
_WARMUP_BYTES = 4 << 20
# Bases that vanish thrice while they are read are no coincidence.
_ATTEMPTS = 3


# A job with its raw bytes and its bases.
_Loaded = tuple[Job, Buffer, list[Base]]


def push(
    vault: PushView,
    path: Path,
    repo: str,
    branch: str = "main",
    *,
    base: str | None = None,
    level: str = "default",
    message: str | None = None,
    progress: Progress | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    rules: Rules | None = None,
    found: Survey | None = None,
    memory: ScanMemory | None = None,
) -> PushResult:
    """Stores the file or folder `path`, what `rules` do not leave out of it (or a survey `found`),
    as the newest commit of `branch` of `repo`. Files that `memory` knows are not read.

    Sends only chunks the vault lacks, coded against `base` (a repo) where that is smaller.
    Nothing is visible before all of it is stored; a push that failed can be run again and
    continues where it was. `chunk_bytes` bounds the memory used; tensors larger than it share
    storage only with tensors pushed with the same one. Raises VaultError kinds.
    """
    started = time.monotonic()
    progress = progress or Progress()
    check_repo(repo)
    check_branch(branch)
    found = found or survey_checked(path, rules)
    vault.check_commit(repo)
    view = vault.for_owner(repo)
    base_name, lineage = find_base(view, found.files, repo, branch, base)
    scan = scan_folder(path, found, partial(ask_missing, vault), chunk_bytes, progress, memory)
    manifest, known = scan.manifest, (scan.sketches, lineage, level, progress)

    def send(chunks: set[bytes]) -> int:
        return send_missing(view, manifest, scan.files, chunks, *known)

    def commit_all() -> Commit:
        with progress.running("committing"):
            return vault.commit(repo, branch, manifest, base=base_name, message=message)

    sent = send(scan.missing)
    try:
        commit = commit_all()
    except ChunksMissing:
        # A collection took what was there when this began.
        sent += send(ask_missing(vault, manifest))
        commit = commit_all()
    return PushResult(
        commit=commit,
        files=len(manifest.files),
        logical=manifest.size,
        new_chunks=len(scan.missing),
        known_chunks=len(manifest.digests()) - len(scan.missing),
        sent=sent,
        saved=improve(vault, commit, manifest, started, progress) if scan.missing else 0,
        seconds=time.monotonic() - started,
        left_out=tuple(found.left_out),
        warnings=tuple(found.warnings),
    )


def improve(
    vault: PushView, commit: Commit, manifest: Manifest, started: float, progress: Progress
) -> int:
    """Stores in fewer bytes what is stored already, where no server does so; returns the bytes
    saved."""
    if not isinstance(vault, OwnUpkeep):
        return 0
    with progress.running("re-encoding relatives"):
        saved = _derive(vault, commit, manifest)
        return saved + _recentre(vault, commit, time.monotonic() - started)


def _derive(vault: OwnUpkeep, commit: Commit, manifest: Manifest) -> int:
    """Replaces what can be computed by recipes; returns the bytes saved. Nothing depends on it."""
    if all(next(entry.tensors, None) is None for entry in manifest.files):
        # What derives takes long to import.
        return 0
    try:
        return vault.derive(commit.repo, commit.id, manifest)
    except VaultError:
        return 0


def _recentre(vault: OwnUpkeep, commit: Commit, push_seconds: float) -> int:
    """Re-encodes families that have doubled; returns the bytes saved.

    The commit is made, and nothing depends on this: what fails here is left to optimise.
    """
    saved = 0
    stop = time.monotonic() + _RECENTRE_SHARE * push_seconds
    cursor: int | None = 0
    try:
        while cursor is not None:
            step = vault.recentre(commit.repo, commit.id, cursor)
            saved += step.before - step.after
            cursor = step.cursor if time.monotonic() < stop else None
    except VaultError:
        pass
    return saved


def ask_missing(vault: PackSink, manifest: Manifest) -> set[bytes]:
    """Returns the chunks of `manifest` that the vault lacks."""
    digests = list(manifest.digests())
    missing: set[bytes] = set()
    for start in range(0, len(digests), _ASK_DIGESTS):
        missing |= vault.find_missing(digests[start : start + _ASK_DIGESTS])
    return missing


def send_missing(
    vault: PushTarget,
    manifest: Manifest,
    files: Mapping[str, Source],
    missing: set[bytes],
    sketches: Sketches,
    lineage: Lineage,
    level: str,
    progress: Progress,
    scratch: Path | None = None,
) -> int:
    """Sends the missing chunks of `files`, coded against the best bases; packs wait in the folder
    `scratch`. Returns the bytes of packs sent.

    Chooses bases again when one vanished meanwhile, because its repo was deleted or its family
    re-encoded, and goes without when that does not help.
    """

    def send(bases: dict[bytes, tuple[Candidate, ...]]) -> int:
        jobs = list(list_jobs(manifest, files, missing, bases))
        if sum(job.use.size for job in jobs) >= _WARMUP_BYTES:
            # A stage of its own, so that it is in no rate and in no time that is left.
            prepare_kernels((job.use.dtype for job in jobs), progress, deltas=bool(bases))
        return _send(vault, jobs, level, progress, scratch)

    for _ in range(_ATTEMPTS):
        try:
            return send(choose_bases(vault, manifest, missing, sketches, lineage))
        except (Missing, BaseMissing):
            missing = ask_missing(vault, manifest)
        except (Corrupt, InvalidFrame):
            break
    # A base cannot be read, and pushing again may be what mends it. Or it is a delta on what is not
    # to be told. So they go without.
    missing = ask_missing(vault, manifest)
    return send({})


def _send(
    vault: PushTarget, jobs: list[Job], level: str, progress: Progress, scratch: Path | None
) -> int:
    """Encodes and sends the chunks; returns the bytes of packs sent."""
    progress.begin("storing", sum(job.use.size for job in jobs))
    try:
        with (
            scratch_folder("weightvault-", scratch) as folder,
            _PackSender(vault, folder) as sender,
        ):
            for job, raw, bases in _load(vault, jobs):
                work = len(raw) + max((len(base.raw) for base in bases), default=0)
                sender.add(encode_best(job.use, raw, bases, level), work)
                progress.advance(job.use.size)
            return sender.finish()
    finally:
        progress.end()


def _load(vault: RevisionReader, jobs: list[Job]) -> Iterator[_Loaded]:
    """Yields each job with its raw bytes and those of its bases."""
    bases = _read_bases(vault, [candidate for job in jobs for candidate in job.bases])
    for path, group in groupby(jobs, key=lambda job: job.path):
        with path.open("rb") as file:
            for job in group:
                raw = read_job(job, file)
                yield job, raw, [b for _ in job.bases for b in next(bases)]


def _read_bases(vault: RevisionReader, candidates: list[Candidate]) -> Iterator[list[Base]]:
    """Yields each candidate as a base, with what it rests on; read through the revisions that came
    with the candidates."""
    scopes = {c.digest: (c.repo, c.revision) for c in candidates}

    def fetch(digests: Sequence[bytes]) -> Iterator[bytes]:
        frames: dict[bytes, bytes] = {}
        for scope in sorted({scopes[digest] for digest in digests}):
            wanted = [digest for digest in digests if scopes[digest] == scope]
            frames.update(zip(wanted, vault.read_frames(*scope, wanted), strict=True))
        for digest in digests:
            for base in read_header(frames[digest], digest).inputs:
                scopes.setdefault(base, scopes[digest])
            yield frames[digest]

    reader = ChunkReader(fetch)
    uses = (ChunkUse(c.digest, 0, c.size, "U8") for c in candidates)
    return reader.read_bases(uses, CHAIN_LENGTH)


class _PackSender:
    """Gathers frames into packs and sends each while the next one is filled."""

    def __init__(self, vault: PackSink, folder: Path) -> None:
        self._vault = vault
        self._folder = folder
        self._worker = Background("send")
        self._pending: Future[None] | None = None
        self._writer: PackWriter | None = None
        self._sent = self._work = 0
        self._count = 0

    def __enter__(self) -> _PackSender:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._worker.__exit__(*raised)
        if self._writer is not None:
            self._writer.abort()

    def add(self, frame: Buffer, work: int) -> None:
        """Adds a frame that decoding takes so many bytes of, its base's included; sends the pack it
        fills up, and one that a server would find too expensive with it."""
        work += USE_BYTES
        if self._writer is not None and self._work + work > FREE_PACK_BYTES:
            self._submit()
        if self._writer is None:
            self._work = 0
            self._count += 1
            self._path = self._folder / f"{self._count}.pack"
            self._writer = PackWriter(self._path)
        add_frame(self._writer, frame)
        self._work += work
        if self._writer.size >= PACK_BYTES:
            self._submit()

    def finish(self) -> int:
        """Sends what is left and returns the bytes of all packs, all of them taken in."""
        if self._writer is not None:
            self._submit()
        self._wait()
        return self._sent

    def _submit(self) -> None:
        assert self._writer is not None
        name = self._writer.finish()
        self._wait()
        self._sent += self._writer.size
        self._pending = self._worker.submit(self._deliver(self._path, name))
        self._writer = None

    def _deliver(self, path: Path, name: str) -> Callable[[], None]:
        def deliver() -> None:
            self._vault.add_pack(path, name)
            # The folder is gone where an interrupted push did not wait for this.
            path.unlink(missing_ok=True)

        return deliver

    def _wait(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            result_of(pending)
