"""Which files were put together and hashed before."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import LargeBinary, Select, Values, column, exists, or_, select, values

from ..tables.database import Database
from ..tables.rows import batches
from ..tables.schema import files, loose_files

# Two bytes strings each; one question for thousands of small files.
Pair = tuple[bytes, bytes]


def known_files(database: Database, wanted: Collection[Pair]) -> set[Pair]:
    """Returns those of `wanted`, digests of files with digests of their segments, that a commit or
    an upload has."""
    columns = (column("digest", LargeBinary), column("recipe", LargeBinary))
    with database.reading() as connection:
        return {
            (row.digest, row.recipe)
            for batch in batches(list(wanted))
            for row in connection.execute(_known(values(*columns, name="asked").data(batch)))
        }


def _known(asked: Values) -> Select[Any, Any]:
    # One look into an index for each: a file that all repos have is not counted.
    pairs = asked.cte("asked")
    same = (
        exists().where(table.c.digest == pairs.c.digest, table.c.recipe == pairs.c.recipe)
        for table in (files, loose_files)
    )
    return select(pairs.c.digest, pairs.c.recipe).where(or_(*same))
