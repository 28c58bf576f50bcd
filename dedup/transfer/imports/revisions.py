"""Pushes revisions that others keep, each under its name and with the id that it has elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from ....store.catalogue.refs import commits_of
from ...errors import Conflict, InvalidInput
from ...model.files.manifest import Manifest
from ...model.paths import Remark
from ...progress import Progress
from ...repository.refs import DEFAULT_BRANCH, Refs
from ...repository.repository import Repository
from ...vault import Commit, PushView
from ..folders.rules import Rules
from ..push import push
from .found_repos import FoundRevision


@dataclass(frozen=True, slots=True)
class Imported:
    """A revision that was taken over: its repo, commit and refs, its files and their bytes, and the
    bytes that it added to the store. `present`: it was there before."""

    repo: str
    commit: str
    refs: tuple[str, ...]
    files: int
    logical: int
    stored: int
    present: bool = False


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What was taken over, what failed, and what was no revision."""

    imported: tuple[Imported, ...]
    failed: tuple[Remark, ...]
    left_out: tuple[Remark, ...]

    @property
    def logical(self) -> int:
        """The bytes of all files of all revisions."""
        return sum(each.logical for each in self.imported)

    @property
    def stored(self) -> int:
        """The bytes that they added to the store."""
        return sum(each.stored for each in self.imported)


def import_revisions(
    vault: Repository,
    found: Iterable[FoundRevision],
    left_out: Iterable[Remark] = (),
    *,
    rules: Rules | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Pushes revisions in their order. One that cannot be stored is named, and the others go on.

    A revision whose commit is there is not read again: so an import that was stopped goes on where
    it was. Raises what every revision would fail with, as StorageFull.
    """
    done: list[Imported] = []
    failed: list[Remark] = []
    for revision in found:
        try:
            done.append(import_revision(vault, revision, rules=rules, progress=progress))
        except (InvalidInput, Conflict) as error:
            name = (
                revision.repo if revision.commit is None else f"{revision.repo}@{revision.commit}"
            )
            failed.append(Remark(name, error.message))
    return ImportReport(tuple(done), tuple(failed), tuple(left_out))


def import_revision(
    vault: Repository,
    revision: FoundRevision,
    *,
    message: str | None = None,
    rules: Rules | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Pushes a revision; as a copy of the commit that it is elsewhere, unless it lacks files."""
    repo, refs = revision.repo, Refs(vault)
    oid = revision.commit if revision.whole else None
    present = commits_of(vault.catalogue, repo)
    if oid is not None and oid in present:
        _point_all(refs, revision, oid)
        manifest = vault.load_manifest(present[oid].manifest)
        return Imported(repo, oid, revision.refs, len(manifest.files), manifest.size, 0, True)
    view = cast(PushView, _KeepsId(vault, oid))
    message = message or _message_of(revision)
    made = push(
        view,
        revision.folder,
        repo,
        _branch_of(revision),
        message=message,
        rules=rules,
        progress=progress,
    )
    _point_all(refs, revision, made.commit.id)
    known, stored = made.commit.id in present, made.sent - made.saved
    return Imported(repo, made.commit.id, revision.refs, made.files, made.logical, stored, known)


class _KeepsId:
    """A vault whose next commit has a given id."""

    def __init__(self, vault: Repository, oid: str | None) -> None:
        self._vault = vault
        self._oid = oid

    def commit(
        self,
        repo: str,
        branch: str,
        manifest: Manifest,
        *,
        base: str | None = None,
        message: str | None = None,
    ) -> Commit:
        """See Vault.commit."""
        return self._vault.commit(repo, branch, manifest, base=base, message=message, oid=self._oid)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vault, name)


def _branch_of(revision: FoundRevision) -> str:
    if not revision.whole and revision.commit is not None:
        # Its own branch, so that the same files are the same commit the next time.
        return f"partial/{revision.commit[:12]}"
    return revision.refs[0] if revision.refs else DEFAULT_BRANCH


def _message_of(revision: FoundRevision) -> str | None:
    if revision.commit is None:
        return None
    lacks = "" if revision.whole else ", of which files lack"
    return f"Imported\n\n{revision.commit} of a cache of huggingface_hub{lacks}"


def _point_all(refs: Refs, revision: FoundRevision, oid: str) -> None:
    if revision.whole:
        for name in revision.refs:
            refs.point(revision.repo, "branch", name, oid)
