"""Lists of repos, a page at a time: each reads the rows of its page through an index, whoever asks
and however many repos there are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, and_, false, func, or_, select, true, tuple_, union

from ..repo_names import KINDS, RepoName
from .refs import newest_named
from .tables.database import Database
from .tables.fact_schema import repo_facts, repo_labels
from .tables.mirror_schema import mirrors
from .tables.rows import RepoRow, batches
from .tables.schema import commits, files, refs, repos
from .visibility import EVERYTHING, Scope

_ROWS_AT_ONCE = 1000

Order = Literal["updated", "name", "created"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the cards and files of the repos of a list say: all of `labels`, this `pipeline_tag`,
    from `least` to `most` parameters. None: whatever they say."""

    labels: tuple[str, ...] = ()
    pipeline_tag: str | None = None
    least: int | None = None
    most: int | None = None

    def conditions(self) -> Iterator[Any]:
        """Yields the conditions that a row of `repos` is one of them, each for an index."""
        for label in self.labels:
            labelled = select(repo_labels.c.repo_id).where(repo_labels.c.label == label)
            yield repos.c.id.in_(labelled)
        known = select(repo_facts.c.repo_id)
        if self.pipeline_tag is not None:
            yield repos.c.id.in_(known.where(repo_facts.c.pipeline_tag == self.pipeline_tag))
        if self.least is not None:
            yield repos.c.id.in_(known.where(repo_facts.c.parameters >= self.least))
        if self.most is not None:
            yield repos.c.id.in_(known.where(repo_facts.c.parameters <= self.most))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which repos a list is of: those `seen`, of a `kind` and a `namespace` (None: of any) whose
    names hold all of `words`, in whatever case, and of which these `facts` are known. With
    `open_copies`, of copies of other hubs' repos only those that everybody may read there."""

    seen: Scope = EVERYTHING
    kind: str | None = None
    namespace: str | None = None
    words: tuple[str, ...] = ()
    open_copies: bool = False
    facts: Facts = Facts()

    def condition(self) -> Any:
        """Returns the condition that a row of `repos`, of those seen, is one of them."""
        text = repos.c.name
        if self.kind in KINDS:
            text = func.substr(text, len(self.kind or "") + 2)
        parts = [text.icontains(word, autoescape=True) for word in self.words]
        if self.kind is not None:
            parts.append(repos.c.kind == (self.kind if self.kind in KINDS else ""))
        if self.namespace is not None:
            parts.append(repos.c.namespace == self.namespace)
        if self.open_copies or not self.seen.everything:
            guarded = select(mirrors.c.repo).where(mirrors.c.guarded)
            parts.append(repos.c.name.not_in(guarded))
        return and_(true(), *parts, *self.facts.conditions())

    def reasons(self) -> list[Any]:
        """Returns the conditions by any of which a repo is seen, each for an index of its own."""
        if self.seen.everything:
            return [true()]
        own = [repos.c.namespace == namespace for namespace in self.seen.namespaces]
        return own + ([repos.c.public] if self.seen.public else [])


def find_repos(
    connection: Connection,
    wanted: Wanted,
    order: Order,
    limit: int,
    bound: Any = None,
    *,
    descending: bool = False,
) -> Sequence[Any]:
    """Returns up to `limit` rows (id, name, commit_id) of repos that have a branch, with the newest
    commit that one names: those beyond `bound` by name, by the id of that commit, or by the time
    and the id (a pair) of repos that were described."""
    keys = _keys_of(order)
    key = keys[0] if len(keys) == 1 else tuple_(*keys)
    columns = [each.label(f"key{i}") for i, each in enumerate(keys)]
    query = select(repos.c.id, repos.c.name, repos.c.newest.label("commit_id"), *columns)
    if order == "created":
        query = query.join(repo_facts, repo_facts.c.repo_id == repos.c.id)
    query = query.where(repos.c.newest > 0, wanted.condition())
    if bound is not None:
        query = query.where(key < bound if descending else key > bound)
    query = query.order_by(*_turned(keys, descending)).limit(limit)
    parts = [
        select(query.where(reason).subquery(f"page{i}"))
        for i, reason in enumerate(wanted.reasons())
    ]
    if not parts:
        return []
    found = union(*parts).subquery("found")
    places = [found.c[column.name] for column in columns]
    ordered = select(found).order_by(*_turned(places, descending)).limit(limit)
    return connection.execute(ordered).all()


def _keys_of(order: Order) -> list[Any]:
    if order == "created":
        return [repo_facts.c.created, repos.c.id]
    return [repos.c.newest if order == "updated" else repos.c.name]


def _turned(keys: Sequence[Any], descending: bool) -> list[Any]:
    return [key.desc() for key in keys] if descending else list(keys)


def list_rows(
    catalogue: Database, wanted: Wanted, limit: int, after: str | None = None
) -> list[RepoRow]:
    """Returns a page of repos by name: up to `limit` after the name `after`."""
    with catalogue.reading() as connection:
        return list(_rows_of(connection, find_repos(connection, wanted, "name", limit, after)))


def list_all(catalogue: Database, wanted: Wanted, after: str | None = None) -> Iterator[RepoRow]:
    """Yields all repos by name, after the name `after`, page by page."""
    while page := list_rows(catalogue, wanted, _ROWS_AT_ONCE, after):
        yield from page
        after = page[-1].name


def sum_sizes(catalogue: Database, wanted: Wanted) -> int:
    """Returns the bytes of the files of the newest commits of repos."""
    sizes = select(func.sum(files.c.bytes)).join(repos, repos.c.newest == files.c.commit_id)
    query = sizes.where(wanted.condition(), or_(false(), *wanted.reasons()))
    with catalogue.reading() as connection:
        return int(connection.scalar(query) or 0)


def list_misplaced(catalogue: Database) -> list[str]:
    """Returns the repos whose columns that lists go by are not what they are kept of."""
    columns = select(repos.c.name, repos.c.kind, repos.c.namespace)
    wrong = repos.c.newest.is_distinct_from(newest_named())
    query = columns.add_columns(wrong.label("wrong")).order_by(repos.c.id)
    with catalogue.reading() as connection:
        rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query)
        return [row.name for row in rows if row.wrong or _parts_of(row.name) != tuple(row[1:3])]


def _parts_of(name: str) -> tuple[str, str]:
    named = RepoName.of(name)
    return named.prefix, named.namespace


def public_among(catalogue: Database, names: Collection[str]) -> set[str]:
    """Returns those of these repos that are public."""
    query = select(repos.c.name).where(repos.c.public)
    with catalogue.reading() as connection:
        return {
            name
            for batch in batches(list(names))
            for name in connection.scalars(query.where(repos.c.name.in_(batch)))
        }


def _rows_of(connection: Connection, found: Collection[Any]) -> Iterator[RepoRow]:
    branches: dict[int, list[Any]] = {}
    columns = select(refs.c.repo_id, refs.c.name, commits.c.id, commits.c.created)
    columns = columns.join(commits, commits.c.id == refs.c.commit_id).order_by(refs.c.name)
    for batch in batches([row.id for row in found]):
        for row in connection.execute(columns.where(refs.c.repo_id.in_(batch))):
            branches.setdefault(row.repo_id, []).append(row)
    newest = {repo: max(rows, key=lambda row: row.created) for repo, rows in branches.items()}
    totals = _file_totals(connection, [row.id for row in newest.values()])
    for row in found:
        last = newest[row.id]
        names = tuple(branch.name for branch in branches[row.id])
        sums = totals.get(last.id, (0, 0))
        yield RepoRow(row.name, names, *sums, last.created)


def _file_totals(connection: Connection, commit_ids: list[int]) -> dict[int, tuple[int, int]]:
    """Number and bytes of the files of commits."""
    sums = select(files.c.commit_id, func.count(), func.sum(files.c.bytes))
    return {
        commit_id: (count, int(size))
        for batch in batches(commit_ids)
        for commit_id, count, size in connection.execute(
            sums.where(files.c.commit_id.in_(batch)).group_by(files.c.commit_id)
        )
    }
