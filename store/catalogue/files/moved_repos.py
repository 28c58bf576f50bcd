"""Other names of repos: those that they had, and theirs in other capital letters."""

from __future__ import annotations

from sqlalchemy import delete, func, insert, or_, select, update

from ...repo_names import RepoName
from ..tables.database import Database
from ..tables.fact_schema import repo_moves
from ..tables.schema import repos
from ..visibility import Scope


def note_move(catalogue: Database, old: str, new: str) -> None:
    """Remembers that the repo `new` was called `old`, and whatever that was called before."""
    with catalogue.writing() as connection:
        ids = dict(
            connection.execute(
                select(repos.c.name, repos.c.id).where(repos.c.name.in_([old, new]))
            ).all()  # type: ignore[arg-type]
        )
        if new not in ids:
            return
        former = update(repo_moves).where(repo_moves.c.repo_id == ids.get(old))
        connection.execute(former.values(repo_id=ids[new]))
        taken = or_(repo_moves.c.name == old, repo_moves.c.name == new)
        connection.execute(delete(repo_moves).where(taken))
        connection.execute(insert(repo_moves).values(name=old, repo_id=ids[new]))


def other_names(catalogue: Database, name: str, seen: Scope) -> tuple[str | None, list[str]]:
    """Returns the name that the repo has which was called `name`, None for none, and the names of
    up to two repos of `seen`, of the same kind and namespace, that differ from `name` only in
    capital letters."""
    wanted = RepoName.of(name)
    moved = select(repos.c.name).join(repo_moves).where(repo_moves.c.name == name)
    alike = select(repos.c.name).where(
        func.lower(repos.c.name) == name.lower(),
        repos.c.kind == wanted.prefix,
        repos.c.namespace == wanted.namespace,
        repos.c.name != name,
        seen.condition(),
    )
    with catalogue.reading() as connection:
        return connection.scalar(moved), list(connection.scalars(alike.limit(2)))
