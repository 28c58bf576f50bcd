"""Pushes of what has not changed since, answered without opening the vault."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .... import __version__
from ... import config
from ..console import Session, warn_of_exposure

if TYPE_CHECKING:
    from ....dedup.model.history import PushResult
    from ....dedup.transfer.folders.memory import ScanMemory
    from ....dedup.transfer.folders.survey import Survey


@dataclass(frozen=True, slots=True)
class RepeatedPush:
    """One push of a session, of what a survey found at a path. `asked`: what was asked for."""

    session: Session
    memory: ScanMemory
    found: Survey
    asked: tuple[str, ...]

    def answer(self, push: Callable[[], PushResult]) -> PushResult:
        """Returns what the last such push came to, if nothing has changed since; what `push` does
        otherwise."""
        from ....dedup.transfer.folders.repeats import Repeats

        vault = config.find_folder(self.session.url, self.session.catalogue)
        if vault is None:
            return push()
        repeats = Repeats(self.memory.folder, (str(vault.folder.absolute()), *self.asked))
        if not self.memory.anew:
            seconds = (time.time_ns() - self.found.began) / 1e9
            known = repeats.recall(self.found, vault.state(), seconds)
            if known is not None and vault.has(known.commit.manifest):
                warn_of_exposure(vault.find_exposure())
                return known
        already = len(self.found.warnings)
        result = push()
        state = vault.state()
        if state is not None and self._holds(result) and vault.state() == state:
            repeats.keep(self.found, self.found.warnings[already:], result, state)
        return result

    def _holds(self, result: PushResult) -> bool:
        """Tells whether the vault has a commit as the newest of its branch, and nothing in it is
        known to be damaged."""
        from ....dedup.errors import VaultError
        from ....store.catalogue.damage import list_findings

        commit = result.commit
        try:
            vault = config.open_local_vault(self.session.url, create=False)
            try:
                branches = vault.list_refs(commit.repo).branches
                return branches.get(commit.branch) == commit.id and not list_findings(
                    vault.catalogue
                )
            finally:
                vault.close()
        except VaultError:
            return False


def ask(*what: str | None) -> tuple[str, ...]:
    """Returns what decides what a push does, of this version."""
    return (__version__, *(repr(each) for each in what))
