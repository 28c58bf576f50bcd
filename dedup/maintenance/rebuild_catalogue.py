"""Rebuilds a catalogue from the objects alone."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import delete

from ...codecs.frame import CODEC_IDS
from ...store.backend import Backend
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.dependencies import hold_store
from ...store.catalogue.lost_entries import remember_named
from ...store.catalogue.queues.encode_queue import audit_again, queue_codec
from ...store.catalogue.tables.schema import days, metadata, settings
from ...store.catalogue.tables.token_schema import ended_sessions, token_uses
from ...store.catalogue.tombstones import forget_removed, list_tombstones
from ...store.errors import StorageFull, StoreError
from ..errors import Missing
from ..model.store_marker import note_closed, read_marker
from ..progress import Progress
from ..repository.journal.heads import read_heads, write_heads
from ..repository.journal.lost_entries import describe_lost, find_known_lost
from ..repository.journal.replay import catch_up, learn_packs
from ..repository.pins import CLAIM_SECONDS

# What the objects do not tell: settings, how the vault grew, what tokens and sessions did.
_KEPT = (settings, days, token_uses, ended_sessions)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a catalogue holds after it was rebuilt; `lost` has a sentence for each journal entry
    that is gone, and that it therefore does not know."""

    repos: int
    commits: int
    packs: int
    entries: int
    lost: tuple[str, ...] = ()


def rebuild_catalogue(
    backend: Backend, catalogue: Catalogue, progress: Progress | None = None
) -> Rebuilt:
    """Empties the catalogue and fills it from the object store.

    Nobody else may be using it. Stopped half way, the next opening goes on. What only the
    catalogue knows is lost: what a scrub found, and how long tombstones that were given by no
    journal entry have stood. Raises Missing where there is no store, which would empty it for good.
    """
    marker = read_marker(backend)
    if marker is None:
        raise Missing("there are no objects to build a catalogue from", "correct the address")
    note_closed(catalogue, marker)
    # What this catalogue knows of the journal must not go with it.
    with suppress(StoreError, StorageFull):
        if find_known_lost(backend, catalogue):
            write_heads(backend, catalogue)
    with catalogue.writing() as connection:
        hold_store(connection, exclusive=True)
        for table in reversed(metadata.sorted_tables):
            if table not in _KEPT:
                connection.execute(delete(table))
    catalogue.set_store_id(marker.store_id)
    named = read_heads(backend).named
    entries = catch_up(backend, catalogue, progress)
    remember_named(catalogue, catalogue.unknown_entries(named))
    learn_packs(backend, catalogue, progress=progress)
    # Whether more could be made of them is not on record.
    queue_codec(catalogue, CODEC_IDS["raw"])
    # Deltas were recorded before their owners were.
    audit_again(catalogue)
    _forget_removed(backend, catalogue)
    commits = catalogue.all_commits()
    packs = len(catalogue.pack_names())
    lost = tuple(describe_lost(backend, catalogue))
    return Rebuilt(len({row.repo for row in commits}), len(commits), packs, entries, lost)


def _forget_removed(backend: Backend, catalogue: Catalogue) -> None:
    """The journal tells which objects began to be removed, the store which of them are gone."""
    there = {info.key for info in backend.list()}
    gone = list_tombstones(catalogue).keys() - there
    forget_removed(catalogue, gone, time.time() - CLAIM_SECONDS)
