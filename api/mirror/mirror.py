"""A mirror of an upstream hub: which repos it has, for whom, and what of them is here.

    mirror = Mirror(vault, settings, quotas)
    mirror.admit(repo, credential)          # is it a mirrored repo that these may read?
    commit = mirror.answers.find_commit(repo, "main", credential.token)
    files = mirror.answers.listing(repo, commit, credential.token)
    mirror.storing.find(repo, commit, file) or mirror.fetch(...)

A repo that is here and is no copy is never asked for: names of one's own stay one's own. Where the
upstream does not answer, what it said and what was fetched is used.
"""

from __future__ import annotations

import fnmatch
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from anyio import CapacityLimiter

from ...dedup.errors import RepoNotFound, VaultError
from ...dedup.local_vault import LocalVault
from ...dedup.progress import Progress
from ...dedup.repository.refs import Refs
from ...store.catalogue.files.mirrors import (
    MirrorRow,
    find_mirror,
    put_mirror,
    touch_mirror,
)
from ..errors import UpstreamFailed, UpstreamRefused
from ..requests.quotas import Quotas
from ..requests.settings import UpstreamSettings
from .answers import Answers, api_path, file_path
from .fetches import Fetch, Fetches, Wanted
from .listing import UpstreamFile
from .readers import Readers
from .storing import AUTHOR, Storing
from .upstream import Upstream, parse_reply

_USE_SECONDS = 3600.0
# Questions to the upstream hold a thread each, of their own.
_QUESTIONS_AT_ONCE = 32
_AHEAD_AT_ONCE = 4
# Of repos with the same one, one is asked for at a time.
_LOCKS = 64
_GONE = (401, 403, 404)
COMMAND = {"who": "command", "token_id": None, "address": None}
"""Who asks where nobody sent a request."""


@dataclass(frozen=True, slots=True)
class Credential:
    """With what an upstream is asked, for somebody: their own token of it, or the server's where
    they may use that, or none; and who they are, as the audit log has it."""

    token: str | None = field(default=None, repr=False)
    who: Mapping[str, str | None] = field(default_factory=lambda: COMMAND)


@dataclass(frozen=True, slots=True)
class Prefetched:
    """What `mirror` did: a revision's commit, its files and their bytes, and how many of both were
    fetched for it."""

    repo: str
    commit: str
    files: int
    bytes: int
    fetched_files: int
    fetched_bytes: int


class Mirror:
    """Repos of an upstream hub in a vault. Safe to use from several threads. Methods raise
    UpstreamFailed, UpstreamRefused, RepoNotFound."""

    def __init__(
        self,
        vault: LocalVault,
        settings: UpstreamSettings,
        quotas: Quotas,
        *,
        inline: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._vault = vault
        self._settings = settings
        self._clock = clock
        self._upstream = Upstream(settings.url, settings.hosts)
        self.url = self._upstream.url
        self.token = settings.token
        self.answers = Answers(
            self._upstream, vault.catalogue, settings.refresh_seconds, clock=clock
        )
        self.readers = Readers(self.answers, clock=clock)
        self.storing = Storing(
            vault, quotas, self.answers, self.url, size_bytes=settings.size_bytes, inline=inline
        )
        self.fetches = Fetches(
            self._upstream,
            vault.scratch / "mirror",
            settings.at_once,
            self.storing.hold,
            self.storing.store,
        )
        self.limiter = CapacityLimiter(_QUESTIONS_AT_ONCE)
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self.fetches.sweep()

    def close(self) -> None:
        """Ends fetches and closes connections."""
        self.fetches.close()
        self._upstream.close()

    def covers(self, repo: str) -> bool:
        """Says whether a repo may be mirrored, by its name."""
        allow, deny = self._settings.allow, self._settings.deny
        return any(fnmatch.fnmatchcase(repo, each) for each in allow) and not any(
            fnmatch.fnmatchcase(repo, each) for each in deny
        )

    def admit(self, repo: str, credential: Credential) -> bool:
        """Says whether a repo is a mirrored one, which it becomes if it is not here and the
        upstream lets it be read. Raises UpstreamRefused where it does not."""
        row = find_mirror(self._vault.catalogue, repo) or self._adopt(repo)
        if row is None and (self._vault.catalogue.has_repo(repo) or not self.covers(repo)):
            return False
        now = self._clock()
        if row is None or now - row.checked >= self._settings.refresh_seconds:
            with self._locks[hash(repo) % _LOCKS]:
                row = self._refresh(repo, find_mirror(self._vault.catalogue, repo), credential)
        if row.guarded:
            self.readers.require(repo, credential.token)
        if now - row.used >= _USE_SECONDS:
            touch_mirror(self._vault.catalogue, repo, now)
        return True

    def lets_read(self, repo: str, credential: Credential) -> bool:
        """Says whether the upstream lets somebody read a guarded repo; not where it does not
        answer, and has not said so within a day."""
        try:
            self.readers.require(repo, credential.token)
        except (UpstreamRefused, UpstreamFailed):
            return False
        return True

    def fetch(self, repo: str, commit: str, file: UpstreamFile, credential: Credential) -> Fetch:
        """Returns a file on its way."""
        address = file_path(repo, commit, file.path)
        wanted = Wanted(repo, commit, file, address, credential.token, credential.who)
        return self.fetches.begin(wanted)

    def prefetch(
        self, repo: str, revision: str | None, progress: Progress | None = None
    ) -> Prefetched:
        """Fetches all of a revision that is not here, with the server's token. Raises RepoNotFound
        for a repo that is here and no copy, or that is not to be mirrored."""
        credential = Credential(self.token)
        if not self.admit(repo, credential):
            raise RepoNotFound(
                f"{repo} is not to be mirrored", "it is a repo of this vault, or denied"
            )
        commit = self.answers.find_commit(repo, revision, credential.token)
        files = list(self.answers.listing(repo, commit, credential.token).values())
        total = sum(file.size for file in files)
        lacking = [file for file in files if self.storing.find(repo, commit, file) is None]
        distinct = {file.etag: file for file in lacking}
        sizes = [file.size for file in distinct.values()]
        progress = progress or Progress()

        def bring(file: UpstreamFile) -> int:
            fetch = self.fetch(repo, commit, file, credential)
            fetch.ended.wait()
            if fetch.error is not None:
                raise fetch.error
            return file.size

        with (
            progress.running(f"copying {repo}", sum(sizes)),
            ThreadPoolExecutor(_AHEAD_AT_ONCE, "ahead") as pool,
        ):
            for size in pool.map(bring, distinct.values()):
                progress.advance(size)
        if not self.storing.complete(repo, commit, credential.token):
            raise VaultError(f"{repo} at {commit} is not whole", "run the command again")
        return Prefetched(repo, commit, len(files), total, len(sizes), sum(sizes))

    def _adopt(self, repo: str) -> MirrorRow | None:
        """Returns a repo that is a copy, though the catalogue does not know that any more."""
        heads = self._vault.catalogue.branches(repo).values()
        newest = max(heads, key=lambda row: row.created, default=None)
        if newest is None or newest.author != f"{AUTHOR}{self.url}":
            return None
        # Until the upstream says so, it is not for everybody.
        row = MirrorRow(repo, self.url, True, 0.0, self._clock())
        put_mirror(self._vault.catalogue, row)
        return row

    def _refresh(self, repo: str, row: MirrorRow | None, credential: Credential) -> MirrorRow:
        now = self._clock()
        if row is not None and now - row.checked < self._settings.refresh_seconds:
            # Another request was first.
            return row
        # What is for everybody does not go by who asks.
        token = credential.token if row is None else self.token
        try:
            said = parse_reply(self.answers.reach("GET", api_path(repo), token))
            guarded = bool(said.get("private")) or said.get("gated") not in (None, False)
        except UpstreamFailed:
            if row is None:
                raise
            return row
        except UpstreamRefused as error:
            if row is None:
                raise
            if error.status not in _GONE:
                return row
            # Private by now, or deleted: no more for everybody.
            guarded = True
        used = now if row is None else row.used
        found = MirrorRow(repo, self.url, guarded, now, used)
        put_mirror(self._vault.catalogue, found)
        self._show(repo, not guarded)
        return found

    def _show(self, repo: str, public: bool) -> None:
        refs = Refs(self._vault)
        if refs.is_public(repo) not in (None, public):
            refs.set_public(repo, public)
