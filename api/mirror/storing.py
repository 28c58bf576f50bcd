"""Puts what was fetched into the vault: files at once, a revision as a commit when it is whole."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...dedup.errors import Conflict, InvalidUpload, QuotaExceeded, VaultError
from ...dedup.local_vault import LocalVault
from ...dedup.model.names import check_branch
from ...dedup.repository.file_hashes import hashes_in
from ...dedup.transfer.refs import DEFAULT_BRANCH, History, Message
from ...dedup.transfer.uploads import IncomingFiles, StagedFile
from ...store.catalogue.files.loose_files import drop_loose
from ...store.catalogue.files.mirrors import (
    FetchedRow,
    add_fetched,
    fetched_files,
    find_mirror,
    forget_mirror,
    list_mirrors,
)
from ...store.repo_names import namespace_of
from ..errors import UpstreamFailed, UpstreamRefused
from ..requests.audit import audit_fetch
from ..requests.quotas import Body, Quotas
from .answers import Answers, Listing, api_path
from .fetches import Wanted
from .listing import UpstreamFile

AUTHOR = "mirror of "
"""What the author of a copied commit begins with; the address of the upstream follows. No token
and no namespace is called so."""

_ATTEMPTS = 5
_MOST_REFS = 1000
_log = logging.getLogger("weightvault.api")


class Storing:
    """Stores files of an upstream, which together take `size_bytes` at most (None: whatever they
    take). Safe to use from several threads."""

    def __init__(
        self,
        vault: LocalVault,
        quotas: Quotas,
        answers: Answers,
        url: str,
        *,
        size_bytes: int | None,
        inline: bool,
    ) -> None:
        self._vault = vault
        self._quotas = quotas
        self._answers = answers
        self._url = url
        self._size = size_bytes
        self._incoming = IncomingFiles(vault, inline=inline)
        self._history = History(vault, self._incoming)
        # One revision at a time is put together.
        self._lock = threading.Lock()

    def find(self, repo: str, commit: str, file: UpstreamFile) -> StagedFile | None:
        """Returns a file of a commit of the upstream, if it is stored."""
        row = fetched_files(self._vault.catalogue, repo, file.etag).get(file.etag)
        sha256 = bytes.fromhex(file.sha256) if file.sha256 else row.sha256 if row else None
        found = self._incoming.get(sha256, repo) if sha256 is not None else None
        if found is None and sha256 is None:
            # A catalogue that was rebuilt knows the commit alone.
            found = self._find_committed(repo, commit, file)
        if found is None or found.size != file.size:
            return None
        if row is None:
            size = file.size
            add_fetched(self._vault.catalogue, FetchedRow(repo, file.etag, found.sha256, size))
        return found

    def renew(self, repo: str, commit: str, file: StagedFile) -> None:
        """Keeps a file for three weeks from now on, unless its commit is here."""
        if self._vault.catalogue.find_commit(repo, commit) is None:
            self._incoming.keep(file, repo)

    @contextmanager
    def hold(self, wanted: Wanted) -> Iterator[None]:
        """Within, a file counts as on its way. Raises QuotaExceeded, StorageFull."""
        try:
            body = self._begin(namespace_of(wanted.repo), wanted.file.size)
            try:
                yield
            finally:
                body.end()
        except BaseException:
            audit_fetch(wanted.who, wanted.repo, wanted.file.path, wanted.file.size, done=False)
            raise

    def _begin(self, namespace: str, size: int) -> Body:
        if self._size is not None and size > self._size:
            raise QuotaExceeded(
                f"the file has {size} bytes; all of the mirror may take {self._size}"
            )
        self._quotas.require_file(namespace, size)
        return self._quotas.begin_body(namespace, size)

    def store(self, wanted: Wanted, path: Path) -> None:
        """Stores a file that has arrived whole, and commits its revision if that now is."""
        repo, file = wanted.repo, wanted.file
        sha256 = bytes.fromhex(file.sha256) if file.sha256 else None
        name = file.path.rpartition("/")[2]
        try:
            kept = self._incoming.add_file(path, repo, sha256=sha256, size=file.size, name=name)
        except InvalidUpload as error:
            raise UpstreamFailed(
                "a file of the upstream hub changed while it was stored"
            ) from error
        row = FetchedRow(repo, file.etag, kept.sha256, file.size)
        add_fetched(self._vault.catalogue, row)
        audit_fetch(wanted.who, repo, file.path, file.size, done=True)
        self.complete(repo, wanted.commit, wanted.token)
        self._make_room(repo)

    def complete(self, repo: str, commit: str, token: str | None) -> bool:
        """Commits a revision if all its files are here; returns whether it is committed."""
        with self._lock:
            listing = self._answers.listing(repo, commit, token)
            known = fetched_files(self._vault.catalogue, repo)
            if not all(file.etag in known for file in listing.values()):
                return False
            files = self._find_all(repo, commit, listing)
            if files is None:
                return False
            for _ in range(_ATTEMPTS):
                try:
                    self._commit(repo, commit, files, token)
                    return True
                except Conflict:
                    # Another server was first.
                    continue
        return False

    def _find_all(self, repo: str, commit: str, listing: Listing) -> dict[str, StagedFile] | None:
        found: dict[str, StagedFile] = {}
        for path, file in listing.items():
            stored = self.find(repo, commit, file)
            if stored is None:
                return None
            found[path] = stored
        return found

    def _commit(
        self, repo: str, commit: str, files: dict[str, StagedFile], token: str | None
    ) -> None:
        branches, tags = self._names_of(repo, commit, token)
        first, *others = branches or [f"mirror/{commit[:12]}"]
        told = Message("Mirrored", f"{commit} of {self._url}", f"{AUTHOR}{self._url}")
        self._history.copy_commit(repo, first, commit, files, told)
        for kind, names in (("branch", others), ("tag", tags)):
            for name in names:
                self._history.point(repo, kind, name, commit)
        row = find_mirror(self._vault.catalogue, repo)
        public = row is not None and not row.guarded
        if self._history.is_public(repo) != public:
            self._history.set_public(repo, public)

    def _names_of(self, repo: str, commit: str, token: str | None) -> tuple[list[str], list[str]]:
        """Returns the branches and tags that name a commit at the upstream, the default one first;
        none where it does not answer."""
        try:
            refs = self._answers.ask(repo, "refs", api_path(repo, "/refs"), token)
            found = [
                [str(ref["name"]) for ref in refs[kind] if ref["targetCommit"] == commit]
                for kind in ("branches", "tags")
            ]
        except (UpstreamFailed, UpstreamRefused, KeyError, TypeError):
            return [], []
        branches, tags = (sorted(filter(_is_name, names))[:_MOST_REFS] for names in found)
        return sorted(branches, key=lambda name: name != DEFAULT_BRANCH), tags

    def _find_committed(self, repo: str, commit: str, file: UpstreamFile) -> StagedFile | None:
        if self._vault.catalogue.find_commit(repo, commit) is None:
            return None
        manifest = self._vault.resolve(repo, commit).manifest
        entry = manifest.file(file.path)
        if entry is None:
            return None
        hashes = hashes_in(self._vault, manifest)[entry.digest]
        if hashes.git_sha1 != file.blob:
            return None
        return StagedFile(entry, manifest.chunk_bytes, hashes.sha256, hashes.git_sha1)

    def _make_room(self, current: str) -> None:
        """Deletes the repos that were used longest ago while all of them take too much."""
        if self._size is None:
            return
        found = list_mirrors(self._vault.catalogue)
        total = sum(each.bytes for each in found)
        for each in found:
            if total <= self._size:
                return
            if each.row.repo != current:
                self.drop(each.row.repo)
                total -= each.bytes

    def drop(self, repo: str) -> None:
        """Deletes a mirrored repo; a collection frees what no other repo needs."""
        try:
            if self._vault.catalogue.has_repo(repo):
                self._vault.delete_repo(repo)
            drop_loose(self._vault.catalogue, repo)
        except VaultError as error:
            _log.warning("the mirrored repo %s stays: %s", repo, error.message)
            return
        self._answers.forget(repo)
        forget_mirror(self._vault.catalogue, repo)
        _log.info("dropped the mirrored repo %s: it was used longest ago", repo)


def _is_name(name: str) -> bool:
    try:
        return bool(check_branch(name))
    except VaultError:
        return False
