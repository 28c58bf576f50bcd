"""Branches and tags that change without a commit, and who may see a repo."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from ..errors import Superseded
from .dependencies import hold_readers
from .owners import chunks_of_repo, queue_dependents, queue_of_repo
from .tables.database import Database, MakeEntry
from .tables.rows import CommitRow, commit_columns, hold_rows
from .tables.schema import commits, refs, repos, tags

_TABLES = {"branch": refs, "tag": tags}


def hold_repo(connection: Connection, repo: str) -> int:
    """Returns the id of a repo, to which nobody else commits until the transaction ends
    (PostgreSQL). Raises Superseded where it is gone."""
    found = connection.scalar(hold_rows(select(repos.c.id).where(repos.c.name == repo)))
    if found is None:
        raise Superseded(f"repo {repo} was deleted at this moment")
    return found


def check_head(connection: Connection, repo_id: int | None, branch: str, oid: str | None) -> None:
    """Raises Superseded unless a branch points to the commit `oid`, or is not there for None.

    It stays so until the transaction ends.
    """
    held = (
        select(refs.c.commit_id)
        .where(refs.c.repo_id == repo_id, refs.c.name == branch)
        .with_for_update()
    )
    commit_id = connection.scalar(held)
    found = connection.scalar(select(commits.c.oid).where(commits.c.id == commit_id))
    if found != oid:
        raise Superseded(f"branch {branch} is at {found or 'no commit'} by now")


def move_branch(connection: Connection, repo_id: int, branch: str, commit_id: int) -> None:
    """Lets a branch, which need not be there yet, name a commit."""
    mine = (refs.c.repo_id == repo_id) & (refs.c.name == branch)
    if not connection.execute(update(refs).where(mine).values(commit_id=commit_id)).rowcount:
        values = {"repo_id": repo_id, "name": branch, "commit_id": commit_id}
        connection.execute(insert(refs).values(values))
    refresh_newest(connection, repo_id)


def refresh_newest(connection: Connection, repo_id: int | None) -> None:
    """Keeps which commit of a repo is the newest that a branch names, for lists to go by, and that
    its branches changed. To be called wherever one was moved or went, in the same transaction."""
    changed = {"newest": newest_named(), "branch_changes": repos.c.branch_changes + 1}
    connection.execute(update(repos).where(repos.c.id == repo_id).values(changed))


def newest_named() -> Any:
    """Selects, for a row of `repos`, the newest commit that a branch of it names."""
    newest = select(func.max(refs.c.commit_id)).where(refs.c.repo_id == repos.c.id)
    return newest.correlate(repos).scalar_subquery()


def tagged_commit(repo: str, tag: str) -> Any:
    """Selects the commit that a tag names."""
    return (
        commit_columns()
        .join(tags, tags.c.commit_id == commits.c.id)
        .where(repos.c.name == repo, tags.c.name == tag)
    )


def change_ref(
    catalogue: Database,
    repo: str,
    kind: str,
    name: str,
    target: str | None,
    message: str | None,
    key: str | MakeEntry,
) -> None:
    """Lets a ref of the `kind` "branch" or "tag" name the commit `target`, or takes it away for
    None, as the journal entry `key` says. What it needs may be gone since: then it does nothing."""
    table = _TABLES[kind]
    with catalogue.writing() as connection:
        if not catalogue.take_entry(connection, key):
            return
        repo_id = connection.scalar(select(repos.c.id).where(repos.c.name == repo))
        mine = (table.c.repo_id == repo_id) & (table.c.name == name)
        same = (commits.c.repo_id == repo_id) & (commits.c.oid == target)
        commit_id = connection.scalar(select(commits.c.id).where(same))
        if target is None or commit_id is not None:
            connection.execute(delete(table).where(mine))
        if commit_id is not None:
            values = {"repo_id": repo_id, "name": name, "commit_id": commit_id}
            extra = {"message": message} if kind == "tag" else {}
            connection.execute(insert(table).values(**values, **extra))
        refresh_newest(connection, repo_id)
        catalogue.write_entry(connection, key)


def list_tags(catalogue: Database, repo: str) -> dict[str, CommitRow]:
    """Returns the tags of a repo with the commits they name."""
    query = (
        commit_columns(tags.c.name)
        .join(tags, tags.c.commit_id == commits.c.id)
        .where(repos.c.name == repo)
        .order_by(tags.c.name)
    )
    with catalogue.reading() as connection:
        return {name: CommitRow(*row) for *row, name in connection.execute(query)}


def tag_messages(catalogue: Database, repo: str) -> dict[str, str | None]:
    """Returns the messages of a repo's tags."""
    query = select(tags.c.name, tags.c.message).join(repos).where(repos.c.name == repo)
    with catalogue.reading() as connection:
        return {row.name: row.message for row in connection.execute(query)}


def commits_of(catalogue: Database, repo: str) -> dict[str, CommitRow]:
    """Returns the commits of a repo by their ids, oldest first."""
    query = commit_columns().where(repos.c.name == repo).order_by(commits.c.id)
    with catalogue.reading() as connection:
        return {row.oid: CommitRow(*row) for row in connection.execute(query)}


def first_created(catalogue: Database, repo: str) -> float | None:
    """Returns when the first commit of a repo was made, of those that are there."""
    mine = select(repos.c.id).where(repos.c.name == repo).scalar_subquery()
    query = select(commits.c.created).where(commits.c.repo_id == mine).order_by(commits.c.id)
    with catalogue.reading() as connection:
        return connection.scalar(query.limit(1))


def set_public(catalogue: Database, repo: str, public: bool, key: str | MakeEntry) -> None:
    """Makes a repo public or private, as the journal entry `key` says."""
    with catalogue.writing() as connection:
        hold_readers(connection)
        if catalogue.take_entry(connection, key):
            mine = update(repos).where(repos.c.name == repo)
            connection.execute(mine.values(public=public))
            if public:
                queue_of_repo(connection, repo)
            else:
                queue_dependents(connection, chunks_of_repo(connection, repo))
            catalogue.write_entry(connection, key)


def is_public(catalogue: Database, repo: str) -> bool | None:
    """Says whether a repo is public; None where there is none of that name."""
    with catalogue.reading() as connection:
        return connection.scalar(select(repos.c.public).where(repos.c.name == repo))


def public_repos(catalogue: Database) -> set[str]:
    """Returns the names of all public repos."""
    with catalogue.reading() as connection:
        return set(connection.scalars(select(repos.c.name).where(repos.c.public)))
