"""By what names other systems know files: SHA-256, and the hash that git gives a blob."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, select

from ..tables.database import Database
from ..tables.rows import batches
from ..tables.schema import commits, files, hashes, repos

AddOnce = Callable[[Connection, Table, list[dict[str, Any]]], int]

# Repos that are looked through for one that somebody may read; a file in more of them is found in
# one of the first, or sent again.
_MOST_HOLDERS = 1000


@dataclass(frozen=True, slots=True)
class HashRow:
    """A file's BLAKE3-256, SHA-256 and SHA-1 as a git blob, as raw bytes."""

    digest: bytes
    sha256: bytes
    git_sha1: bytes


@dataclass(frozen=True, slots=True)
class Holder:
    """A commit of a repo that has a file: the repo, the commit's manifest, the file's digest and
    path there."""

    repo: str
    manifest: str
    digest: bytes
    path: str


def add_hashes(connection: Connection, add_once: AddOnce, rows: Iterable[HashRow]) -> None:
    """Records hashes inside a transaction."""
    values = [{"digest": r.digest, "sha256": r.sha256, "git_sha1": r.git_sha1} for r in rows]
    add_once(connection, hashes, values)


def record_hashes(catalogue: Database, rows: Collection[HashRow]) -> None:
    """Records hashes; those of files known already stay."""
    with catalogue.writing() as connection:
        add_hashes(connection, catalogue.add_once, rows)


def hashes_of(catalogue: Database, digests: Collection[bytes]) -> dict[bytes, HashRow]:
    """Returns the hashes of those of `digests` that have them on record."""
    with catalogue.reading() as connection:
        return {
            row.digest: HashRow(*row)
            for batch in batches(list(digests))
            for row in connection.execute(select(hashes).where(hashes.c.digest.in_(batch)))
        }


def commits_with(catalogue: Database, repo: str, wanted: Collection[bytes]) -> set[str]:
    """Returns the ids of the commits of a repo that have a file of one of those SHA-256."""
    query = (
        select(commits.c.oid)
        .join(repos, repos.c.id == commits.c.repo_id)
        .join(files, files.c.commit_id == commits.c.id)
        .join(hashes, hashes.c.digest == files.c.digest)
        .where(repos.c.name == repo)
    )
    with catalogue.reading() as connection:
        return {
            oid
            for batch in batches(list(wanted))
            for oid in connection.scalars(query.where(hashes.c.sha256.in_(batch)))
        }


def find_holders(catalogue: Database, sha256: bytes, repo: str | None = None) -> list[Holder]:
    """Returns commits that have a file of that SHA-256, one for each repo; only of `repo` if
    given."""
    query = (
        select(repos.c.name, commits.c.manifest, files.c.digest, files.c.path)
        .join(commits, commits.c.repo_id == repos.c.id)
        .join(files, files.c.commit_id == commits.c.id)
        .join(hashes, hashes.c.digest == files.c.digest)
        .where(hashes.c.sha256 == sha256)
        .limit(_MOST_HOLDERS)
    )
    if repo is not None:
        query = query.where(repos.c.name == repo)
    found: dict[str, Holder] = {}
    with catalogue.reading() as connection:
        for row in connection.execute(query):
            found.setdefault(row.name, Holder(*row))
    return list(found.values())
