"""The catalogue's side of retention: the rules of namespaces, and commits that go by them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict

from sqlalchemy import Connection, delete, func, insert, select, union, update

from ...errors import Superseded
from ..dependencies import hold_readers
from ..owners import queue_dependents
from ..refs import hold_repo, refresh_newest
from ..tables.database import Database, MakeEntry
from ..tables.rows import batches
from ..tables.schema import chunks, commit_chunks, commits, refs, repos, retention, tags
from .quotas import forget_usage
from .rules import RULE_NAMES, RetentionRules

_RULES = [retention.c[name] for name in RULE_NAMES]


def put_rules(
    catalogue: Database, namespace: str, rules: RetentionRules, key: str | MakeEntry
) -> None:
    """Sets the rules of a namespace, as the journal entry `key` says, unless a later one did."""
    with catalogue.writing() as connection:
        if not catalogue.take_entry(connection, key):
            return
        entry = catalogue.write_entry(connection, key)
        mine = retention.c.namespace == namespace
        held = select(retention.c.entry).where(mine).with_for_update()
        if (connection.scalar(held) or "") > entry:
            return
        connection.execute(delete(retention).where(mine))
        values = {"namespace": namespace, "entry": entry, **asdict(rules)}
        connection.execute(insert(retention).values(values))


def list_rules(catalogue: Database) -> dict[str, RetentionRules]:
    """Returns the rules of all namespaces that have any, by name."""
    with catalogue.reading() as connection:
        rows = connection.execute(select(retention.c.namespace, *_RULES)).all()
    found = {namespace: RetentionRules(*rules) for namespace, *rules in sorted(map(tuple, rows))}
    return {namespace: rules for namespace, rules in found.items() if rules.any()}


def forget_commits(
    catalogue: Database, repo: str, parents: Mapping[str, str | None], key: str | MakeEntry
) -> None:
    """Removes commits of a repo, as the journal entry `key` says. `parents` has their ids, each
    with that of its parent, which takes its place as the parent of others.

    For an entry that is still to be written raises Superseded where a branch or tag names one of
    them by now, or one is gone. What the journal says has happened: names of them go, too.
    """
    with catalogue.writing() as connection:
        hold_readers(connection)
        if not catalogue.take_entry(connection, key):
            return
        if not isinstance(key, str):
            _require_unnamed(connection, hold_repo(connection, repo), parents.keys())
        repo_id = connection.scalar(select(repos.c.id).where(repos.c.name == repo))
        read: list[int] = []
        for batch in batches(list(parents)):
            mine = (commits.c.repo_id == repo_id) & commits.c.oid.in_(batch)
            ids = select(commits.c.id).where(mine)
            used = select(commit_chunks.c.chunk_id).where(commit_chunks.c.commit_id.in_(ids))
            read += connection.scalars(used.distinct())
            connection.execute(delete(commits).where(mine))
        # Where an entry of the journal comes late, branches may have named them.
        refresh_newest(connection, repo_id)
        _take_over(connection, repo_id, parents)
        forget_usage(connection, repo)
        queue_dependents(connection, set(read))
        catalogue.write_entry(connection, key)


def raw_bytes_of(catalogue: Database, repo: str, oids: Collection[str]) -> int:
    """Returns the raw bytes of distinct chunks that, of all commits of a repo, only `oids` have."""
    mine = select(commits.c.oid, commit_chunks.c.chunk_id).join(
        commits, commits.c.id == commit_chunks.c.commit_id
    )
    mine = mine.join(repos, repos.c.id == commits.c.repo_id).where(repos.c.name == repo)
    goes, stays = set[int](), set[int]()
    wanted = set(oids)
    with catalogue.reading() as connection:
        for oid, chunk in connection.execute(mine):
            (goes if oid in wanted else stays).add(chunk)
        sums = (
            connection.scalar(select(func.sum(chunks.c.raw_bytes)).where(chunks.c.id.in_(batch)))
            for batch in batches(list(goes - stays))
        )
        return sum(int(size or 0) for size in sums)


def _require_unnamed(connection: Connection, repo_id: int, oids: Collection[str]) -> None:
    """Raises Superseded unless all these commits are there and nothing names them."""
    here = 0
    for batch in batches(list(oids)):
        mine = (commits.c.repo_id == repo_id) & commits.c.oid.in_(batch)
        ids = list(connection.scalars(select(commits.c.id).where(mine)))
        here += len(ids)
        named = union(*(select(t.c.commit_id).where(t.c.commit_id.in_(ids)) for t in (refs, tags)))
        if connection.execute(named.limit(1)).first() is not None:
            raise Superseded("a commit that was to be forgotten has got a name by now")
    if here != len(oids):
        raise Superseded("a commit that was to be forgotten is gone already")


def _take_over(
    connection: Connection, repo_id: int | None, parents: Mapping[str, str | None]
) -> None:
    """Gives the children of commits that went the nearest ancestor that is left as parent."""
    for batch in batches(list(parents)):
        children = (commits.c.repo_id == repo_id) & commits.c.parent.in_(batch)
        rows = connection.execute(select(commits.c.id, commits.c.parent).where(children)).all()
        for row in rows:
            mine = update(commits).where(commits.c.id == row.id)
            connection.execute(mine.values(parent=nearest_kept(row.parent, parents)))


def nearest_kept(oid: str | None, parents: Mapping[str, str | None]) -> str | None:
    """Returns the first of a commit and its ancestors that is not among the keys of `parents`."""
    for _ in range(len(parents) + 1):
        if oid is None or oid not in parents:
            return oid
        oid = parents[oid]
    # Parents in a circle, which only a forged entry has.
    return None
