"""Checks that everything a vault refers to is there. Reads no weights and writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ...store.backend import Backend
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.repo_list import list_misplaced
from ...store.catalogue.tables.rows import CommitRow
from ...store.errors import CorruptObject, NotFound, StoreError
from ...store.object_keys import manifest_key, pack_key
from ...store.packs import read_index
from ..errors import VaultError
from ..model.files.manifest import Manifest
from ..model.inputs import locate_inputs
from ..progress import Progress
from ..reading.workers import Background, result_of
from ..repository.journal.lost_entries import describe_lost
from ..repository.journal.replay import load_manifest
from ..vault import CheckResult
from .damage import describe_findings

# On S3 each look takes a round trip or two. A database keeps 15 connections for a catalogue.
_AT_ONCE = 8

T = TypeVar("T")


def check_vault(backend: Backend, catalogue: Catalogue, progress: Progress) -> CheckResult:
    """Follows every ref to its manifest, chunks, bases and packs; reports what does not hold.

    Each pack that a live chunk lies in must exist with the size recorded and an index that says
    the same as the catalogue.
    """
    commits = catalogue.all_commits()
    problems: list[str] = []
    chunks: set[bytes] = set()

    def check_commit(row: CommitRow) -> list[str]:
        return _check_commit(backend, catalogue, row, chunks)

    def check_pack(name: str) -> list[str]:
        return list(_check_pack(backend, catalogue, name))

    problems += _check_all("checking commits", "commits", check_commit, commits, progress)
    packs = _packs_of(catalogue, chunks)
    problems += _check_all("checking packs", "packs", check_pack, packs, progress)
    problems.extend(describe_lost(backend, catalogue))
    problems.extend(_describe_misplaced(catalogue))
    problems.extend(s for s, files in describe_findings(backend, catalogue) if files)
    repos, manifests = ({getattr(row, name) for row in commits} for name in ("repo", "manifest"))
    return CheckResult(
        len(repos), len(commits), len(manifests), len(packs), len(chunks), tuple(problems)
    )


def _describe_misplaced(catalogue: Catalogue) -> Iterator[str]:
    """Compares what lists go by, which is kept with each change, with what it is kept of."""
    hint = "no file is affected; `weightvault rebuild-catalogue` puts it right"
    for repo in list_misplaced(catalogue):
        yield f"repo {repo} is not listed by its name and its newest commit; {hint}"


def _check_all(
    task: str, unit: str, check: Callable[[T], list[str]], things: Sequence[T], progress: Progress
) -> list[str]:
    """Returns the problems of all things, in their order, several being looked at at a time."""
    problems: list[str] = []
    with progress.running(task, len(things), unit), Background("check", _AT_ONCE) as background:
        for start in range(0, len(things), _AT_ONCE):
            batch = things[start : start + _AT_ONCE]
            for future in [background.submit(check, thing) for thing in batch]:
                problems += result_of(future)
                progress.advance(1)
    return problems


def _check_commit(
    backend: Backend, catalogue: Catalogue, row: CommitRow, chunks: set[bytes]
) -> list[str]:
    """Returns what is wrong with a commit; adds the chunks that it needs to `chunks`."""
    where = f"commit {row.oid[:12]} of {row.repo} ({row.branch})"
    try:
        manifest = load_manifest(backend, row.manifest)
    except NotFound:
        return [f"{where}: its manifest {manifest_key(row.manifest)} is gone"]
    except CorruptObject as error:
        return [f"{where}: its manifest is damaged: {error}"]
    except StoreError:
        # The store says nothing about the manifest.
        raise
    except VaultError as error:
        return [f"{where}: its manifest is damaged: {error}"]
    chunks.update(manifest.digests())
    return list(_check_digests(catalogue, where, manifest))


def _check_digests(catalogue: Catalogue, where: str, manifest: Manifest) -> Iterator[str]:
    wanted = list(manifest.digests())
    places = catalogue.locate(wanted)
    under = locate_inputs(catalogue.locate, places)
    edges = {(p.level, d) for p in (*places.values(), *under.values()) for d in p.inputs}
    absent = set(wanted) - places.keys()
    stranded = {digest for _, digest in edges} - under.keys()
    deep = {digest for level, digest in edges if digest in under and under[digest].level >= level}
    for digest in absent:
        yield f"{where}: chunk {digest.hex()} has no frame; affects {_path_of(manifest, digest)}"
    for digest in stranded:
        yield f"{where}: base {digest.hex()} of its deltas has no frame"
    for digest in deep:
        yield f"{where}: base {digest.hex()} has a frame of too high a level"


def _path_of(manifest: Manifest, digest: bytes) -> str:
    uses = ((f.path, use) for f in manifest.files for use in f.chunks(manifest.chunk_bytes))
    return next(path for path, use in uses if use.digest == digest)


def _packs_of(catalogue: Catalogue, chunks: set[bytes]) -> list[str]:
    places = catalogue.locate(chunks)
    places.update(locate_inputs(catalogue.locate, places))
    return sorted({p.pack for p in places.values()})


def _check_pack(backend: Backend, catalogue: Catalogue, name: str) -> Iterator[str]:
    key = pack_key(name)
    try:
        size = backend.size(key)
        entries = read_index(lambda start, stop: backend.get(key, start, stop), size)
    except NotFound:
        yield f"pack {key} is gone; affects {_repos_of_pack(catalogue, name)}"
        return
    except CorruptObject as error:
        yield f"pack {key} is damaged: {error}; affects {_repos_of_pack(catalogue, name)}"
        return
    indexed = {e.digest: (e.offset, e.frame_bytes) for e in entries}
    for place in catalogue.chunks_in(name):
        if indexed.get(place.digest) != (place.offset, place.frame_bytes):
            yield f"pack {key} does not hold chunk {place.digest.hex()} where the catalogue says"


def _repos_of_pack(catalogue: Catalogue, name: str) -> str:
    return ", ".join(catalogue.repos_needing(name))
