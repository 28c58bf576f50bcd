"""A vault as the owners of some chunks see it, as far as bases go.

What an uploaded card names, what a search by content finds and what the commit before had are taken
from nowhere but where all the owners may read (store/catalogue/owners.py); the rest is as if it
were not there. What others may read, too, is patched only where it is the owners' own. Bases of
what is public are public.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.owners import Reach
from ...store.catalogue.refs import is_public
from ..errors import RepoNotFound
from ..model.files.manifest import Manifest
from ..model.sketch import Sketch
from ..similarity.candidates import find_candidates
from ..vault import Candidate, Commit, PushTarget, Snapshot


class OwnersView:
    """The vault `target`, whose catalogue is given, for chunks with bases within `reach`. Methods
    do as those of PushTarget."""

    def __init__(self, target: PushTarget, catalogue: Catalogue, reach: Reach) -> None:
        self._target = target
        self._catalogue = catalogue
        self._reach = reach

    def find_bases(self, sketches: Sequence[Sketch]) -> list[tuple[Candidate, ...]]:
        """See BaseFinder.find_bases."""
        return find_candidates(self._catalogue, sketches, self._reach.weights)

    def resolve(self, repo: str, revision: str = "main") -> Snapshot:
        """See RevisionReader.resolve; says of texts whether they may be bases."""
        public = bool(is_public(self._catalogue, repo))
        if not self._reach.includes(repo, public):
            who = "every reader of" if self._reach.shown else "the owner of"
            raise RepoNotFound(
                f"there is no repo {repo} that {who} this one may read",
                "`weightvault settings base-sharing all` lets weights be encoded against it",
            )
        found = self._target.resolve(repo, revision)
        return replace(found, patched=self._reach.may_patch(repo, public))

    def read_frames(self, repo: str, revision: str, digests: Sequence[bytes]) -> Iterator[bytes]:
        """See RevisionReader.read_frames."""
        return self._target.read_frames(repo, revision, digests)

    def find_missing(self, digests: Collection[bytes]) -> set[bytes]:
        """See PackSink.find_missing."""
        return self._target.find_missing(digests)

    def check_commit(self, repo: str) -> None:
        """See PackSink.check_commit."""
        self._target.check_commit(repo)

    def add_pack(self, path: Path, name: str) -> int:
        """See PackSink.add_pack."""
        return self._target.add_pack(path, name)

    def commit(
        self,
        repo: str,
        branch: str,
        manifest: Manifest,
        *,
        base: str | None = None,
        message: str | None = None,
    ) -> Commit:
        """See PackSink.commit."""
        return self._target.commit(repo, branch, manifest, base=base, message=message)
