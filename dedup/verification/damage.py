"""Says what damage means: which files of which revisions cannot be had any more."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from ...store.backend import Backend
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.damage import WHOLE_PACK, Finding, commits_using, list_findings, needing
from ...store.object_keys import pack_key
from ..errors import VaultError
from ..model.files.manifest import Manifest
from ..repository.journal.replay import load_manifest

# A base may carry thousands of models; a sentence names as many.
_NAMED = 20


def affected_files(
    backend: Backend, catalogue: Catalogue, digests: Collection[bytes]
) -> dict[bytes, list[str]]:
    """Returns for each chunk the files that cannot be read without it, as "org/m@main:path" and,
    where only an older commit has them, "org/m@<commit>:path"."""
    needed = needing(catalogue, digests)
    everything = set().union(*needed.values()) if needed else set()
    found: dict[bytes, list[str]] = {digest: [] for digest in digests}
    heads = {row.oid for row in _heads(catalogue)}
    for row in commits_using(catalogue, everything):
        try:
            manifest = load_manifest(backend, row.manifest)
        except VaultError:
            # Reported on its own; which of its files are meant cannot be said without it.
            continue
        revision = row.branch if row.oid in heads else row.oid[:12]
        for path, used in _uses(manifest):
            for digest, wanted in needed.items():
                if used & wanted:
                    found[digest].append(f"{row.repo}@{revision}:{path}")
    return found


def name_files(files: Collection[str]) -> str:
    """Returns the files as the end of a sentence."""
    if not files:
        return "affects no file"
    listed = list(files)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return f"affects {', '.join(listed[:_NAMED])}{more}"


def describe_findings(backend: Backend, catalogue: Catalogue) -> list[tuple[str, list[str]]]:
    """Returns a sentence for everything on record as damaged, each with the files affected. What is
    wrong with several frames of a pack in the same way, for the same files, is said once."""
    findings = list_findings(catalogue)
    digests = {f.digest for f in findings if f.in_use}
    files = affected_files(backend, catalogue, digests)
    groups: dict[tuple[Any, ...], list[Finding]] = {}
    for finding in findings:
        affected = tuple(files[finding.digest]) if finding.in_use else ()
        alike = (finding.pack, finding.offset == WHOLE_PACK, finding.reason, affected)
        groups.setdefault(alike, []).append(finding)
    return [_describe(group, list(affected)) for (*_, affected), group in groups.items()]


def _describe(findings: list[Finding], files: list[str]) -> tuple[str, list[str]]:
    first = findings[0]
    key = pack_key(first.pack)
    if first.offset == WHOLE_PACK:
        return f"pack {key} is damaged: {first.reason}; affects no file by itself", []
    if len(findings) == 1:
        what = f"frame of chunk {first.digest.hex()} at {first.offset} of {key} is damaged"
    else:
        what = f"{len(findings)} frames of {key} are damaged"
    return f"{what}: {first.reason}; {name_files(files)}", files


def _heads(catalogue: Catalogue):
    for repo in catalogue.list_repos():
        yield from catalogue.branches(repo.name).values()


def _uses(manifest: Manifest) -> Iterator[tuple[str, set[bytes]]]:
    for entry in manifest.files:
        yield entry.path, {use.digest for use in entry.chunks(manifest.chunk_bytes)}
