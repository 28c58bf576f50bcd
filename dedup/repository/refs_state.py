"""What repos are, their commits, branches and tags: as the journal has it, without a catalogue, or
as a catalogue has it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...store.catalogue.access.limits import Limits
from ...store.catalogue.access.retention import nearest_kept
from ...store.catalogue.access.rules import RetentionRules
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.refs import commits_of, is_public, list_tags, tag_messages
from ...store.catalogue.tables.rows import CommitRow
from ...store.catalogue.tokens import TokenRow
from ..model.journal_entries import (
    AnyEntry,
    Entry,
    Forgotten,
    QuotaChange,
    RefChange,
    RetentionChange,
    TokenChange,
    Visibility,
)

# A ref by its kind, "branch" or "tag", and its name.
Ref = tuple[str, str]


@dataclass(slots=True)
class RepoState:
    """A repo: its commits by id, oldest first; its refs, each with the id of the commit it names
    and a tag's message; and whether it is public."""

    commits: dict[str, CommitRow] = field(default_factory=dict)
    refs: dict[Ref, tuple[str, str | None]] = field(default_factory=dict)
    public: bool = False


@dataclass(slots=True)
class Replay:
    """Follows the entries of a journal in their order. `deleted` has repos as they last were before
    they were deleted, with when that was (Unix seconds)."""

    repos: dict[str, RepoState] = field(default_factory=dict)
    deleted: dict[str, tuple[float, RepoState]] = field(default_factory=dict)
    tokens: dict[str, TokenRow] = field(default_factory=dict)
    limits: dict[str, Limits] = field(default_factory=dict)
    rules: dict[str, RetentionRules] = field(default_factory=dict)

    def take(self, entry: AnyEntry) -> None:
        """Takes in one more entry."""
        if isinstance(entry, TokenChange):
            self.tokens[entry.row.id] = entry.row.joined(self.tokens.get(entry.row.id))
        elif isinstance(entry, QuotaChange):
            self.limits[entry.namespace] = entry.limits
        elif isinstance(entry, RetentionChange):
            self.rules[entry.namespace] = entry.rules
        elif isinstance(entry, Entry) and entry.commit is None:
            state = self.repos.pop(entry.repo, None)
            if state is not None and state.commits:
                self.deleted[entry.repo] = entry.created, state
        elif isinstance(entry, Entry | RefChange | Visibility | Forgotten):
            self._change(self.repos.setdefault(entry.repo, RepoState()), entry)

    def _change(self, state: RepoState, entry: Entry | RefChange | Visibility | Forgotten) -> None:
        if isinstance(entry, Forgotten):
            _forget(state, entry.parents)
        elif isinstance(entry, Visibility):
            state.public = entry.public
        elif isinstance(entry, RefChange):
            if entry.target is None:
                state.refs.pop((entry.kind, entry.name), None)
            elif entry.target in state.commits:
                state.refs[entry.kind, entry.name] = entry.target, entry.message
        elif entry.commit is not None:
            state.commits[entry.commit.oid] = entry.commit
            state.refs["branch", entry.commit.branch] = entry.commit.oid, None


def _forget(state: RepoState, parents: dict[str, str | None]) -> None:
    """As store.catalogue.access.retention.forget_commits does with a journal's entry."""
    kept = {oid: row for oid, row in state.commits.items() if oid not in parents}
    state.commits = {
        oid: replace(row, parent=nearest_kept(row.parent, parents)) for oid, row in kept.items()
    }
    state.refs = {ref: named for ref, named in state.refs.items() if named[0] in kept}


def read_state(catalogue: Catalogue, repo: str) -> RepoState:
    """Returns a repo as a catalogue has it; an empty one where there is none of that name."""
    state = RepoState(commits_of(catalogue, repo), public=bool(is_public(catalogue, repo)))
    for name, row in catalogue.branches(repo).items():
        state.refs["branch", name] = row.oid, None
    messages = tag_messages(catalogue, repo)
    for name, row in list_tags(catalogue, repo).items():
        state.refs["tag", name] = row.oid, messages[name]
    return state


def changes_of(
    repo: str, before: RepoState, after: RepoState, now: float
) -> list[RefChange | Visibility]:
    """Returns the entries that make the refs and the visibility of a repo what they are `after`."""
    found: list[RefChange | Visibility] = []
    for kind, name in before.refs.keys() - after.refs.keys():
        found.append(RefChange(repo, kind, name, None, now))
    for (kind, name), (target, message) in after.refs.items():
        if before.refs.get((kind, name)) != (target, message):
            found.append(RefChange(repo, kind, name, target, now, message))
    if before.public != after.public:
        found.append(Visibility(repo, after.public, now))
    return found
