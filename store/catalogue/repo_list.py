"""Gathers the rows of a listing of repos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, func, select

from .tables.rows import RepoRow
from .tables.schema import files, refs


def file_totals(connection: Connection) -> dict[int, tuple[int, int]]:
    """Number and bytes of files of every commit that a branch points to."""
    query = (
        select(files.c.commit_id, func.count(), func.sum(files.c.bytes))
        .where(files.c.commit_id.in_(select(refs.c.commit_id)))
        .group_by(files.c.commit_id)
    )
    return {commit_id: (n, int(size)) for commit_id, n, size in connection.execute(query)}


def repo_rows(branches: Iterable[Any], totals: dict[int, tuple[int, int]]) -> Iterator[RepoRow]:
    """Gathers rows (repo, branch, commit, created), sorted by repo, into one row a repo."""
    for name, rows in groupby(branches, key=lambda row: row[0]):
        group = list(rows)
        newest = max(group, key=lambda row: row[3])
        n_files, size = totals.get(newest[2], (0, 0))
        yield RepoRow(name, tuple(row[1] for row in group), n_files, size, newest[3])
