"""Which commits repos keep: `forget` with the rules of restic, once or by the rules of a namespace.

The commits of each branch are one group, as snapshots of one host and path are for restic. A commit
that a branch or a tag names is never forgotten. What goes is the commit alone; its bytes go with
the collections after the grace, as far as nothing else needs them.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime

from ...store.catalogue.access.retention import list_rules, raw_bytes_of
from ...store.catalogue.access.rules import COUNT_NAMES, UNLIMITED, RetentionRules
from ...store.catalogue.tables.rows import CommitRow, batches
from ...store.repo_names import namespace_of
from ..errors import InvalidInput, VaultError
from ..model.history import MOST_TOLD, Forgetting, KeptCommit
from ..model.journal_entries import Forgotten, RetentionChange
from ..model.names import check_namespace
from ..repository.reader import make_commit
from ..repository.refs_state import RepoState, read_state
from ..repository.repository import Repository

_MOST_COUNT = 1 << 31
_log = logging.getLogger("weightvault.dedup")

# What commits of one period have in common. The number of a commit among its group, so that each
# is a period of its own.
_PERIODS: dict[str, Callable[[datetime, int], object]] = {
    "last": lambda at, number: number,
    "hourly": lambda at, number: (at.date(), at.hour),
    "daily": lambda at, number: at.date(),
    "weekly": lambda at, number: at.isocalendar()[:2],
    "monthly": lambda at, number: (at.year, at.month),
    "yearly": lambda at, number: at.year,
}


@dataclass(slots=True)
class _Count:
    """How many periods of a kind are still to be kept, and the last one that was."""

    name: str
    left: int
    last: object = None

    def keeps(self, period: object, *, is_oldest: bool) -> bool:
        """Says whether a commit is kept; the oldest one is while there is any left to keep, so that
        the history that is kept is as long as it may be."""
        if self.left == 0 or (period == self.last and not is_oldest):
            return False
        self.last = period
        self.left -= self.left > 0
        return True


def choose_kept(
    group: Sequence[CommitRow], rules: RetentionRules
) -> Iterator[tuple[CommitRow, list[str]]]:
    """Yields the commits of one branch, newest first, each with the rules that keep it."""
    counts = [_Count(n, getattr(rules, n)) for n in COUNT_NAMES if getattr(rules, n) is not None]
    ordered = sorted(group, key=lambda row: row.created)[::-1]
    for number, row in enumerate(ordered):
        at = datetime.fromtimestamp(row.created, UTC)
        is_oldest = number == len(ordered) - 1
        why = [
            count.name
            for count in counts
            if count.keeps(_PERIODS[count.name](at, number), is_oldest=is_oldest)
        ]
        within = rules.within_seconds
        if within is not None and ordered[0].created - row.created < within:
            why.append("within")
        yield row, why


def plan_forgetting(state: RepoState, rules: RetentionRules) -> list[tuple[CommitRow, list[str]]]:
    """Returns every commit of a repo with what keeps it, newest first; those with nothing go."""
    groups: dict[str, list[CommitRow]] = defaultdict(list)
    for row in state.commits.values():
        groups[row.branch].append(row)
    names: dict[str, list[str]] = defaultdict(list)
    for (kind, name), (oid, _) in sorted(state.refs.items()):
        names[oid].append(f"{kind} {name}")
    found = [
        (row, [*names[row.oid], *why])
        for group in groups.values()
        for row, why in choose_kept(group, rules)
    ]
    return sorted(found, key=lambda each: each[0].created, reverse=True)


def forget(
    vault: Repository,
    repo: str,
    rules: RetentionRules,
    predict: Callable[[set[str]], int],
    *,
    dry_run: bool = False,
    exact: bool = True,
) -> Forgetting:
    """Forgets the commits of a repo that no rule keeps; with `dry_run` only says which.

    `predict` says how many bytes go with commits of these ids: `exact` ones of the store, else
    `distinct_bytes`. Raises RepoNotFound, and InvalidInput without rules.
    """
    check_rules(rules)
    if not rules.any():
        raise InvalidInput("no rule says what to keep", "give one, such as --keep-last 5")
    vault.require_repo(repo)
    plan = plan_forgetting(read_state(vault.catalogue, repo), rules)
    goes = [row for row, why in plan if not why]
    freed = predict({row.oid for row in goes}) if goes else 0
    if not dry_run:
        _record(vault, repo, goes)
    kept = [KeptCommit(make_commit(row), tuple(why)) for row, why in plan if why]
    return Forgetting(
        repo=repo,
        kept=tuple(kept[:MOST_TOLD]),
        kept_count=len(kept),
        forgotten=tuple(map(make_commit, goes[:MOST_TOLD])),
        forgotten_count=len(goes),
        freed=freed,
        counted="stored" if exact else "raw",
        dry_run=dry_run,
    )


def distinct_bytes(vault: Repository, repo: str, oids: set[str]) -> int:
    """Returns the raw bytes of the distinct chunks that a repo has in these commits alone: what may
    be told to who may not read all repos."""
    return raw_bytes_of(vault.catalogue, repo, oids)


def _record(vault: Repository, repo: str, goes: Sequence[CommitRow]) -> None:
    for batch in batches(list(goes)):
        parents = {row.oid: row.parent for row in batch}
        vault.record(Forgotten(repo, parents, time.time()))


# Rules of namespaces


def check_rules(rules: RetentionRules) -> None:
    """Raises InvalidInput for rules that cannot be."""
    for name in COUNT_NAMES:
        count = getattr(rules, name)
        if count is not None and not (count == UNLIMITED or 0 < count < _MOST_COUNT):
            raise InvalidInput(f"{count} is no number to keep ({name})", "use 1 or more, or -1")
    if rules.within_seconds is not None and not 0 < rules.within_seconds < _MOST_COUNT:
        raise InvalidInput("commits are kept within some time, such as 30d")


def set_rules(vault: Repository, namespace: str, rules: RetentionRules) -> None:
    """Gives a namespace rules in place of those it has; none takes them away. A server forgets by
    them in the background. Raises InvalidName, InvalidInput."""
    check_namespace(namespace)
    check_rules(rules)
    vault.record(RetentionChange(namespace, rules, time.time()))


def find_rules(vault: Repository) -> dict[str, RetentionRules]:
    """Returns the rules of all namespaces that have any, by name."""
    return list_rules(vault.catalogue)


def apply_rules(vault: Repository) -> int:
    """Forgets what the rules of namespaces do not keep; returns how many commits that were. What
    cannot be forgotten now is left to the next call."""
    rules = list_rules(vault.catalogue)
    return sum(
        _apply(vault, row.name, rules[namespace_of(row.name)])
        for row in (vault.list_repos() if rules else ())
        if namespace_of(row.name) in rules
    )


def _apply(vault: Repository, repo: str, rules: RetentionRules) -> int:
    try:
        plan = plan_forgetting(read_state(vault.catalogue, repo), rules)
        goes = [row for row, why in plan if not why]
        _record(vault, repo, goes)
    except VaultError as error:
        _log.warning("%s keeps all its commits for now (%s)", repo, error.message)
        return 0
    if goes:
        _log.info("forgot %d commits of %s", len(goes), repo)
    return len(goes)


def describe_rules(rules: RetentionRules) -> Iterable[str]:
    """Yields rules as the options of `forget` have them."""
    for field in fields(rules):
        value = getattr(rules, field.name)
        if value is True:
            yield f"--keep-{field.name}"
        elif field.name == "within_seconds" and value is not None:
            yield f"--keep-within {_describe_seconds(value)}"
        elif value not in (None, False):
            yield f"--keep-{field.name} {value}"


def _describe_seconds(seconds: float) -> str:
    days = seconds / 86_400
    return f"{days:g}d" if days == int(days) else f"{seconds:g}s"
