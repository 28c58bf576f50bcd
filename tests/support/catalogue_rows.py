"""Reads whole catalogues so that two can be compared, whatever numbers their rows have."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, select

from weightvault.store.catalogue.catalogue import Catalogue
from weightvault.store.catalogue.tables.schema import metadata

# What is of one catalogue and not of the store: facts about itself, what a scrub did, and when a
# family was last planned. What waits to be coded is a list of work: a rebuild has every raw chunk
# looked at again. What was sent and not committed is sent again. The newest commit of a repo is one
# by its number, in the order in which a catalogue learned of them; a check counts it anew.
NOT_OF_THE_STORE = {"settings", "damage", "verified", "uncoded", "received", "sketches.planned"}
NOT_OF_THE_STORE |= {"repos.newest"}
# What lists of a hub select by is read out of repos when a list asks, and where a repo was read.
NOT_OF_THE_STORE |= {"repos.branch_changes", "repos.described", "repo_facts", "repo_labels"}
# Names of before are a convenience of one catalogue.
NOT_OF_THE_STORE |= {"repo_moves"}


def read_rows(catalogue: Catalogue) -> dict[str, list[str]]:
    """Returns the rows of every table as text, sorted; what refers to another row by its number has
    that row's own text instead."""
    texts: dict[str, dict[Any, str]] = {}
    with catalogue.reading() as connection:
        for table in metadata.sorted_tables:
            rows = connection.execute(select(table)).mappings()
            texts[table.name] = {
                row.get("id", number): _text(table, row, texts) for number, row in enumerate(rows)
            }
    kept = (name for name in texts if name not in NOT_OF_THE_STORE)
    return {name: sorted(texts[name].values()) for name in kept}


def _text(table: Table, row: Any, texts: dict[str, dict[Any, str]]) -> str:
    parts = []
    for column in table.columns:
        value = row[column.name]
        own_number = column.name == "id" and isinstance(value, int)
        if own_number or f"{table.name}.{column.name}" in NOT_OF_THE_STORE:
            continue
        for key in column.foreign_keys:
            value = value and texts[key.column.table.name][value]
        parts.append(f"{column.name}={value.hex() if isinstance(value, bytes) else value!r}")
    return " ".join(parts)
