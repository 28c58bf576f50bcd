"""Which files were put together and hashed before."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import LargeBinary, Select, Values, column, or_, select, values

from ..tables.database import Database
from ..tables.rows import batches
from ..tables.schema import commits, files, loose_files, repos
from ..visibility import EVERYTHING, Scope

# Two bytes strings each; one question for thousands of small files.
Pair = tuple[bytes, bytes]


def known_files(
    database: Database, wanted: Collection[Pair], scope: Scope = EVERYTHING
) -> set[Pair]:
    """Returns those of `wanted`, digests of files with digests of their segments, that a commit or
    an upload has, of a repo of `scope`."""
    columns = (column("digest", LargeBinary), column("recipe", LargeBinary))
    with database.reading() as connection:
        return {
            (row.digest, row.recipe)
            for batch in batches(list(wanted))
            for row in connection.execute(_known(values(*columns, name="asked").data(batch), scope))
        }


def _known(asked: Values, scope: Scope) -> Select[Any, Any]:
    # One look into an index for each: a file that all repos have is not counted.
    pairs = asked.cte("asked")
    committed, uploaded = (
        select(table.c.digest).where(
            table.c.digest == pairs.c.digest, table.c.recipe == pairs.c.recipe
        )
        for table in (files, loose_files)
    )
    if not scope.everything:
        named = committed.join(commits, commits.c.id == files.c.commit_id)
        committed = named.join(repos, repos.c.id == commits.c.repo_id).where(scope.condition())
        uploaded = uploaded.where(scope.owns(loose_files.c.repo))
    same = or_(committed.correlate(pairs).exists(), uploaded.correlate(pairs).exists())
    return select(pairs.c.digest, pairs.c.recipe).where(same)
