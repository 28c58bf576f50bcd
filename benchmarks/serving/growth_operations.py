"""The operations whose cost `growth` measures: each takes a made-up vault and its shape."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256

from sqlalchemy import select

from ...dedup.local_vault import LocalVault
from ...dedup.maintenance.gc import Collector
from ...dedup.model.report import Query
from ...dedup.repository.journal.replay import catch_up
from ...store.catalogue import damage, tombstones
from ...store.catalogue.dependencies import usable_among
from ...store.catalogue.queues import encode_queue
from ...store.catalogue.repo_list import Wanted, list_rows
from ...store.catalogue.reports import lineage, pages
from ...store.catalogue.sketches import near, sketches
from ...store.catalogue.tables.rows import SketchRow
from ...store.catalogue.tables.schema import chunks, packs
from ...store.catalogue.visibility import EVERYTHING, Scope
from ...store.repo_names import MODELS
from ..support.large_vaults import Shape

Operation = Callable[[LocalVault, Shape], object]

_RAW = 100
_MISSING = [sha256(bytes([i])).digest() for i in range(50)]


def _digests(vault: LocalVault, first: int, count: int) -> list[bytes]:
    query = select(chunks.c.digest).where(chunks.c.id.between(first, first + count - 1))
    with vault.catalogue.reading() as connection:
        return list(connection.scalars(query.order_by(chunks.c.id)))


def _find_missing(vault: LocalVault, _shape: Shape) -> None:
    digests = _digests(vault, 60, 50) + _MISSING
    with vault.catalogue.reading() as connection:
        usable_among(connection, digests)


def _locate(vault: LocalVault, _shape: Shape) -> None:
    vault.catalogue.locate(_digests(vault, 60, 100))


def _find_near(vault: LocalVault, _shape: Shape) -> None:
    (bits,) = _digests(vault, 60, 1)
    near.find_near(vault.catalogue, SketchRow(bits, 1, 1, 1, bits, b""))


def _chunks_of(vault: LocalVault, shape: Shape) -> None:
    name = shape.name_of(1)
    row = vault.catalogue.find_commit(name, "main")
    assert row is not None
    vault.catalogue.chunks_of(name, row.oid, _digests(vault, 101, 50))


def _list_newcomers(vault: LocalVault, shape: Shape) -> None:
    name = shape.name_of(shape.repos // 2 + 1)
    row = vault.catalogue.find_commit(name, "main")
    assert row is not None
    sketches.list_newcomers(vault.catalogue, name, row.oid, 0, 100)


def _repos_needing(vault: LocalVault, _shape: Shape) -> None:
    with vault.catalogue.reading() as connection:
        name = connection.scalar(select(packs.c.name).where(packs.c.id == 1))
    vault.catalogue.repos_needing(str(name))


def _claim(vault: LocalVault, _shape: Shape) -> None:
    now = time.time()
    rows = encode_queue.claim_chunks(vault.catalogue, now, now + 600, 16, 1 << 40)
    encode_queue.return_chunks(vault.catalogue, [row.chunk_id for row in rows])


def _list_page(vault: LocalVault, shape: Shape) -> None:
    pages.list_page(vault.catalogue, order="name", cursor=shape.name_of(7), limit=30)
    pages.list_page(vault.catalogue, order="updated", limit=30)


def _list_own(vault: LocalVault, shape: Shape) -> None:
    (owner, _) = shape.name_of(7).split("/")
    pages.list_lines(vault.catalogue, Wanted(Scope((owner,), public=True)), "updated", 30)


def _history(vault: LocalVault, shape: Shape) -> None:
    name = shape.name_of(1)
    row = vault.catalogue.find_commit(name, "main")
    assert row is not None
    pages.list_history(vault.catalogue, name, row.oid, 50)


def _search(vault: LocalVault, _shape: Shape) -> None:
    pages.list_page(vault.catalogue, order="updated", search="no-such-model", limit=30)


def _gc(vault: LocalVault, _shape: Shape) -> None:
    Collector(vault).predict()


OPERATIONS: dict[str, Operation] = {
    # What every request, tensor or member asks.
    "find_missing": _find_missing,
    "locate": _locate,
    "find_near": _find_near,
    "chunks_of": _chunks_of,
    "find_commit": lambda v, s: v.catalogue.find_commit(s.name_of(1), "main"),
    "read_family of a centre": lambda v, _: sketches.read_family(v.catalogue, [60]),
    "read_family of a delta": lambda v, _: sketches.read_family(v.catalogue, [_RAW + 60]),
    "list_centres, first": lambda v, _: sketches.list_centres(v.catalogue, 0, 100, uncoded=0),
    "list_centres, last": lambda v, s: sketches.list_centres(
        v.catalogue, (s.repos - 2) * 50, 100, uncoded=0
    ),
    "list_newcomers": _list_newcomers,
    "repos_needing": _repos_needing,
    "users_of": lambda v, _: lineage.users_of(v.catalogue, _digests(v, 60, 1), EVERYTHING),
    "claim_chunks": _claim,
    "list_page": _list_page,
    "search in vain": _search,
    "count_repos": lambda v, _: pages.count_repos(v.catalogue),
    "log": _history,
    "ls, a page": lambda v, s: list_rows(v.catalogue, Wanted(), 100, s.name_of(7)),
    "a page of the hub": lambda v, _: pages.list_lines(
        v.catalogue, Wanted(kind=MODELS, open_copies=True), "updated", 100, descending=True
    ),
    "a page of a tenant": _list_own,
    "catch_up": lambda v, _: catch_up(v.backend, v.catalogue),
    # What lists or adds up.
    "ls": lambda v, _: v.list_repos(),
    "packs_by_age": lambda v, _: damage.packs_by_age(v.catalogue),
    "pack_uses": lambda v, _: tombstones.pack_uses(v.catalogue),
    "report": lambda v, _: v.report(Query(())),
    "families": lambda v, _: v.list_families(),
    "what-if": lambda v, s: v.predict_removal([s.name_of(1)]),
    "gc, dry run": _gc,
}
