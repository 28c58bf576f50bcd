"""The vault of this process: a repository with all that `Vault` promises.

What an operation needs is imported when it runs: coders, plans and reports take half a second to
load, which asking for a list or a file need not pay.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from ..store.catalogue.access.rules import RetentionRules
from ..store.catalogue.damage import get_setting, set_setting
from ..store.catalogue.visibility import EVERYTHING, Scope
from .errors import VaultError
from .model.bills import MonthBill
from .model.families import Family
from .model.files.manifest import Manifest
from .model.history import Forgetting
from .model.report import BY_REPO, Comparison, Prediction, Query, Report
from .progress import Progress
from .repository.reader import make_commit
from .repository.refs import Refs
from .repository.repository import Repository
from .vault import CheckResult, Commit, Optimised, OptimiseStep, RefList, RepoInfo, list_files

_BILLS = "bills"


class LocalVault(Repository):
    """Implements dedup.vault.Vault over a backend and a catalogue, by the operations of this room.

    Takes what Repository takes.
    """

    def describe_repo(self, repo: str, seen: Scope = EVERYTHING) -> RepoInfo:
        """See Vault.describe_repo; the cost is told to somebody who may read the repos `seen`."""
        from .reports.origins import list_computed
        from .reports.report import cost_of_repo

        self.require_repo(repo)
        branches = self.catalogue.branches(repo)
        newest = max(branches.values(), key=lambda row: row.created)
        manifest = self._load_manifest(newest.manifest)
        cost = cost_of_repo(self.catalogue, repo, seen)
        files = list_files(manifest)
        ids = {name: row.oid for name, row in branches.items()}
        computed = list_computed(self, manifest) if seen.everything else ()
        return RepoInfo(repo, ids, make_commit(newest), files, cost, computed)

    def rename_repo(self, repo: str, new: str) -> None:
        """See Vault.rename_repo."""
        from .maintenance.rename_repo import rename_repo

        rename_repo(self, repo, new)

    def list_refs(self, repo: str) -> RefList:
        """See Vault.list_refs."""
        return Refs(self).list(repo)

    def list_commits(
        self, repo: str, revision: str = "main", limit: int | None = None
    ) -> list[Commit]:
        """See Vault.list_commits."""
        return Refs(self).log(repo, revision, limit)

    def create_branch(self, repo: str, name: str, revision: str = "main") -> None:
        """See Vault.create_branch."""
        Refs(self).create_branch(repo, name, revision)

    def delete_branch(self, repo: str, name: str) -> None:
        """See Vault.delete_branch."""
        self.require_repo(repo)
        Refs(self).delete_branch(repo, name)

    def create_tag(
        self, repo: str, name: str, revision: str = "main", message: str | None = None
    ) -> None:
        """See Vault.create_tag."""
        Refs(self).create_tag(repo, name, revision, message)

    def delete_tag(self, repo: str, name: str) -> None:
        """See Vault.delete_tag."""
        self.require_repo(repo)
        Refs(self).delete_tag(repo, name)

    def forget(
        self,
        repo: str,
        rules: RetentionRules,
        *,
        dry_run: bool = False,
        seen: Scope = EVERYTHING,
    ) -> Forgetting:
        """See Vault.forget; the freed bytes are told to somebody who may read the repos `seen`."""
        from .maintenance.retention import distinct_bytes, forget

        def predict(oids: set[str]) -> int:
            if not seen.everything:
                return distinct_bytes(self, repo, oids)
            from .reports.removal_prediction import predict_forgetting

            return predict_forgetting(self, repo, oids).freed

        return forget(self, repo, rules, predict, dry_run=dry_run, exact=seen.everything)

    def report(self, query: Query = BY_REPO) -> Report:
        """See Vault.report. Puts the day on record, too."""
        from .reports import growth
        from .reports.report import report_vault

        found = report_vault(self, query)
        if growth.wants_record(self.catalogue):
            # The next one will do: somebody else may be writing for long, or nobody may.
            with suppress(VaultError):
                growth.record(self.catalogue, found)
        return found

    def record_totals(self) -> None:
        """Puts the day on record unless that was done within the hour."""
        from .reports import growth
        from .reports.report import report_vault

        if growth.wants_record(self.catalogue):
            growth.record(self.catalogue, report_vault(self, Query(())))

    def make_bill(
        self, month: str | None = None, by: Literal["namespace", "repo"] = "namespace"
    ) -> MonthBill:
        """See Vault.make_bill."""
        from .reports.bills import make_bill

        return make_bill(self, month, by)

    def predict_removal(self, repos: Sequence[str]) -> Prediction:
        """See Vault.predict_removal."""
        from .reports.removal_prediction import predict_removal

        return predict_removal(self, repos)

    def compare(
        self, share: float = 1.0, seed: int = 0, progress: Progress | None = None
    ) -> Comparison:
        """See Vault.compare."""
        from .reports.compare import compare_methods

        return compare_methods(self, share, seed, progress or Progress())

    def list_families(self) -> list[Family]:
        """See Vault.list_families."""
        from .reports.families import find_families

        return find_families(self.catalogue)

    def optimise_all(
        self, *, dry_run: bool = False, reads: int | None = None, progress: Progress | None = None
    ) -> Optimised:
        """See Vault.optimise_all."""
        from .maintenance.optimise import optimise_all

        return optimise_all(self, dry_run=dry_run, reads=reads, progress=progress or Progress())

    def optimise(self, cursor: int = 0, *, dry_run: bool = False) -> OptimiseStep:
        """Does one step of optimise_all, which is visible as a whole or not at all; begins with
        `cursor` 0 and goes on with the cursor of the step before."""
        from .maintenance.optimise import optimise_step

        return optimise_step(self, cursor, dry_run=dry_run)

    def recentre(self, repo: str, revision: str, cursor: int = 0) -> OptimiseStep:
        """See Vault.recentre."""
        from .maintenance.optimise import recentre_step

        row = self._find_commit(repo, revision)
        return recentre_step(self, repo, row.oid, cursor)

    def derive(self, repo: str, revision: str, manifest: Manifest) -> int:
        """See Vault.derive."""
        from .maintenance.derive import derive_commit

        row = self._find_commit(repo, revision)
        found = derive_commit(self, row, manifest)
        return found.before - found.after

    def check(self, progress: Progress | None = None) -> CheckResult:
        """See Vault.check."""
        from .verification.check import check_vault

        return check_vault(self.backend, self.catalogue, progress or Progress())

    def shows_bills(self) -> bool:
        """Says whether tokens that are limited to namespaces are told what of the stored bytes is
        put down to these, which depends on what others have."""
        return get_setting(self.catalogue, _BILLS) == "shown"

    def show_bills(self, shown: bool) -> None:
        """Sets what shows_bills returns."""
        set_setting(self.catalogue, _BILLS, "shown" if shown else "hidden")
