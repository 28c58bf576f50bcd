"""What cards and files of repos say, for lists to select by: kept for the state in which a repo's
branches were when they were read, and read again when these changed.

Nobody need read a repo at once. Whoever asks for a list that depends on it has those described
first that are not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from .refs import hold_repo
from .repo_list import Facts, Wanted
from .tables.database import Database
from .tables.fact_schema import repo_facts, repo_labels
from .tables.rows import batches
from .tables.schema import commits, repos
from .visibility import Scope

MOST_LABELS = 1000
"""How many labels of a repo are kept."""
LABEL_CHARACTERS = 200
"""How long each may be."""
ALL_CHARACTERS = 8 << 10
"""How long all of a repo may be: a page has a thousand repos."""


@dataclass(frozen=True, slots=True)
class RepoFacts:
    """What is known of a repo: its labels, as they are shown, its task, its library, how many
    parameters its tensors have, and when its first commit was made (Unix seconds)."""

    labels: tuple[str, ...] = ()
    pipeline_tag: str | None = None
    library: str | None = None
    parameters: int | None = None
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class Undescribed:
    """A repo that is to be read, and how often its branches had changed when that was found."""

    name: str
    changes: int


def list_undescribed(
    catalogue: Database, wanted: Wanted, limit: int, names: Collection[str] | None = None
) -> list[Undescribed]:
    """Returns up to `limit` repos that a list may have and that were changed since they were
    described; of these only those with `names`, where there are any."""
    known = replace(wanted, facts=Facts()).condition()
    seen = or_(*wanted.reasons()) if wanted.reasons() else None
    query = select(repos.c.name, repos.c.branch_changes)
    query = query.where(repos.c.described != repos.c.branch_changes, repos.c.newest > 0, known)
    if names is not None:
        query = query.where(repos.c.name.in_(list(names)))
    if seen is None or names == []:
        return []
    with catalogue.reading() as connection:
        rows = connection.execute(query.where(seen).order_by(repos.c.id).limit(limit))
        return [Undescribed(*row) for row in rows]


def describe_repo(catalogue: Database, repo: Undescribed, facts: RepoFacts) -> None:
    """Keeps what was read of a repo; its branches may have changed in the meantime, then it is to
    be read again. Raises Superseded where the repo is gone."""
    with catalogue.writing() as connection:
        repo_id = hold_repo(connection, repo.name)
        mine = update(repos).where(repos.c.id == repo_id, repos.c.branch_changes == repo.changes)
        if not connection.execute(mine.values(described=repo.changes)).rowcount:
            return
        for table in (repo_facts, repo_labels):
            connection.execute(delete(table).where(table.c.repo_id == repo_id))
        first = select(func.min(commits.c.created)).where(commits.c.repo_id == repo_id)
        values = {
            "repo_id": repo_id,
            "created": connection.scalar(first) or facts.created,
            "pipeline_tag": facts.pipeline_tag,
            "library": facts.library,
            "parameters": facts.parameters,
        }
        connection.execute(insert(repo_facts).values(values))
        rows = [
            {"label": label, "repo_id": repo_id, "place": place}
            for place, label in enumerate(_kept(facts.labels))
        ]
        if rows:
            connection.execute(insert(repo_labels), rows)


def facts_of(catalogue: Database, names: Collection[str]) -> dict[str, RepoFacts]:
    """Returns what is known of repos, as of when they were last described; those that never were
    are left out."""
    wanted = select(
        repos.c.name,
        repo_facts.c.pipeline_tag,
        repo_facts.c.library,
        repo_facts.c.parameters,
        repo_facts.c.created,
    ).join(repo_facts, repo_facts.c.repo_id == repos.c.id)
    with catalogue.reading() as connection:
        labels = _labels_of(connection, names)
        return {
            name: RepoFacts(tuple(labels.get(name, ())), *rest)
            for batch in batches(list(names))
            for name, *rest in connection.execute(wanted.where(repos.c.name.in_(batch)))
        }


def created_place(connection: Connection, repo: str, seen: Scope) -> tuple[float, int]:
    """Returns the place of a repo in a list by when they were created. Raises ValueError for a
    repo that is not there, or not to be seen."""
    query = select(repo_facts.c.created, repos.c.id).join(repos).where(repos.c.name == repo)
    found = connection.execute(query.where(seen.condition())).one_or_none()
    if found is None:
        raise ValueError(f"{repo} is no place in a list")
    return found[0], found[1]


def _labels_of(connection: Connection, names: Collection[str]) -> dict[str, list[str]]:
    query = select(repos.c.name, repo_labels.c.label).join(repos).order_by(repo_labels.c.place)
    found: dict[str, list[str]] = {}
    for batch in batches(list(names)):
        for name, label in connection.execute(query.where(repos.c.name.in_(batch))):
            found.setdefault(name, []).append(label)
    return found


def _kept(labels: Iterable[str]) -> Iterator[str]:
    """Yields what of these is kept: each once, and what a database takes."""
    kept: dict[str, None] = {}
    left = ALL_CHARACTERS
    for label in labels:
        if label in kept or not 0 < len(label) <= LABEL_CHARACTERS or not label.isprintable():
            continue
        left -= len(label)
        if left < 0 or len(kept) == MOST_LABELS:
            break
        kept[label] = None
    return iter(kept)
