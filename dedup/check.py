"""Checks that everything a vault refers to is there. Reads no weights and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ..store.backend import Backend
from ..store.catalogue import Catalogue
from ..store.errors import CorruptObject, NotFound
from ..store.pack import pack_key, read_index
from ..store.rows import CommitRow
from .affected import describe_findings
from .errors import VaultError
from .journal import load_manifest
from .manifest import Manifest, manifest_key
from .vault import CheckResult


def check_vault(backend: Backend, catalogue: Catalogue) -> CheckResult:
    """Follows every ref to its manifest, chunks, bases and packs; reports what does not hold.

    Each pack that a live chunk lies in must exist with the size recorded and an index that says
    the same as the catalogue.
    """
    commits = catalogue.all_commits()
    problems: list[str] = []
    chunks: dict[bytes, str] = {}
    manifests = {row.manifest for row in commits}
    for row in commits:
        manifest = _load(backend, row, problems)
        if manifest is not None:
            problems.extend(_check_digests(catalogue, row, manifest))
            chunks.update(dict.fromkeys(manifest.digests(), f"{row.repo}@{row.branch}"))
    packs = _packs_of(catalogue, chunks)
    for name in packs:
        problems.extend(_check_pack(backend, catalogue, name))
    problems.extend(s for s, files in describe_findings(backend, catalogue) if files)
    repos = len({row.repo for row in commits})
    return CheckResult(
        repos, len(commits), len(manifests), len(packs), len(chunks), tuple(problems)
    )


def _load(backend: Backend, row: CommitRow, problems: list[str]) -> Manifest | None:
    where = f"commit {row.oid[:12]} of {row.repo} ({row.branch})"
    try:
        return load_manifest(backend, row.manifest)
    except NotFound:
        problems.append(f"{where}: its manifest {manifest_key(row.manifest)} is gone")
    except (CorruptObject, VaultError) as error:
        problems.append(f"{where}: its manifest is damaged: {error}")
    return None


def _check_digests(catalogue: Catalogue, row: CommitRow, manifest: Manifest) -> Iterator[str]:
    wanted = list(manifest.digests())
    places = catalogue.locate(wanted)
    bases = {p.base for p in places.values() if p.base is not None}
    base_places = catalogue.locate(bases)
    absent = set(wanted) - places.keys()
    stranded = bases - base_places.keys()
    deep = [d for d, p in base_places.items() if p.base is not None]
    where = f"commit {row.oid[:12]} of {row.repo} ({row.branch})"
    for digest in absent:
        yield f"{where}: chunk {digest.hex()} has no frame; affects {_path_of(manifest, digest)}"
    for digest in stranded:
        yield f"{where}: base {digest.hex()} of its deltas has no frame"
    for digest in deep:
        yield f"{where}: base {digest.hex()} is a delta itself"


def _path_of(manifest: Manifest, digest: bytes) -> str:
    uses = ((f.path, use) for f in manifest.files for use in f.chunks(manifest.chunk_bytes))
    return next(path for path, use in uses if use.digest == digest)


def _packs_of(catalogue: Catalogue, chunks: dict[bytes, str]) -> list[str]:
    places = catalogue.locate(chunks.keys())
    bases = {p.base for p in places.values() if p.base is not None}
    places.update(catalogue.locate(bases))
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
