"""Sums that the database makes, against sums made by hand; columns read as texts."""

import numpy as np
from chunk_samples import digest, entry
from sqlalchemy import func, insert, select

from weightvault.store.catalogue.catalogue import Catalogue
from weightvault.store.catalogue.reports import statistics
from weightvault.store.catalogue.reports.bulk import read_ledger
from weightvault.store.catalogue.reports.columns import read_lists, read_table
from weightvault.store.catalogue.reports.statistics import DayRow
from weightvault.store.catalogue.tables.rows import CommitRow, FileRow
from weightvault.store.catalogue.tables.schema import journal, loose_chunks, loose_files, packs


def add(catalogue: Catalogue, repo: str, *names: object, uses: int = 3, created: float = 1) -> None:
    oid = digest(repo, names).hex()[:40]
    row = CommitRow(oid, repo, "main", None, "0" * 64, None, created)
    size = 200 * len(names)
    file = FileRow("f", size, digest("file", names), digest(names), 1, 1, size - 10, 10)
    catalogue.add_commit(row, [file], {digest(n): uses for n in names}, f"journal/{oid}")


def add_upload(catalogue: Catalogue, repo: str, name: object, expires: float) -> None:
    facts = dict.fromkeys(("sha256", "digest", "recipe"), digest(repo, name))
    with catalogue.writing() as connection:
        values = {**facts, "repo": repo, "bytes": 200, "manifest": "1" * 64, "expires": expires}
        made = connection.execute(insert(loose_files).values(values)).inserted_primary_key
        assert made is not None
        chunk = catalogue_chunk(connection, name)
        connection.execute(insert(loose_chunks).values(loose_id=made[0], chunk_id=chunk))


def catalogue_chunk(connection, name: object) -> int:
    from weightvault.store.catalogue.tables.schema import chunks

    return connection.scalar(select(chunks.c.id).where(chunks.c.digest == digest(name)))


def test_sums_of_a_repo(catalogue: Catalogue):
    entries = [entry("a"), entry("b", "a", 108), entry("c", offset=208), entry("d", offset=308)]
    catalogue.add_pack("p", 1000, entries)
    add(catalogue, "org/base", "a", "c")
    add(catalogue, "org/tuned", "b")
    base = statistics.sum_repo(catalogue, "org/base")
    assert (base.commits, base.logical, base.unique) == (1, 400, 400)
    assert (base.exclusive, base.shared) == (100, 100)
    tuned = statistics.sum_repo(catalogue, "org/tuned")
    assert (tuned.unique, tuned.exclusive, tuned.shared) == (200, 100, 100)
    catalogue.delete_repo("org/base", "journal/d")
    tuned = statistics.sum_repo(catalogue, "org/tuned")
    assert (tuned.exclusive, tuned.shared) == (200, 0)
    add_upload(catalogue, "org/other", "b", expires=9.0)
    tuned = statistics.sum_repo(catalogue, "org/tuned")
    assert (tuned.exclusive, tuned.shared) == (0, 200)


def test_sums_of_files_count_each_distinct_file_once(catalogue: Catalogue):
    catalogue.add_pack("p", 1000, [entry("a"), entry("b", offset=108)])
    add(catalogue, "org/one", "a")
    add(catalogue, "org/two", "a")
    add(catalogue, "org/three", "a", "b")
    with catalogue.reading() as connection:
        found = statistics.sum_files(connection)
    assert (found.files, found.logical, found.by_format) == (3, 800, {1: 800})
    assert (found.distinct, found.tensors, found.inlined) == (600, 580, 20)


def test_the_ledger_has_every_chunk_and_reference(catalogue: Catalogue):
    entries = [entry("a"), entry("b", "a", 108), entry("c", "a", 208), entry("d", "gone", 308)]
    catalogue.add_pack("p", 1000, entries)
    add(catalogue, "org/z", "a", "b", created=2.0)
    add(catalogue, "org/a", "b", "c", uses=5)
    add_upload(catalogue, "org/u", "d", expires=9.0)
    with catalogue.reading() as connection:
        ledger = read_ledger(connection)
    table = ledger.chunks
    assert len(table) == 4
    assert set(table.frame_bytes.tolist()) == {100}
    assert set(table.dtype.tolist()) == {12}
    assert [line.repo for line in ledger.commits] == ["org/a", "org/z"]
    assert ledger.commits[0].branches == ("main",)
    assert (ledger.commits[1].files, ledger.commits[1].logical) == (1, 400)
    # What the base is, is told by position; one that has no frame is none.
    assert sorted(table.needs.counts.tolist()) == [0, 0, 1, 1]
    assert len(set(table.needs.input.tolist())) == 1
    pairs = set(zip(ledger.commit.tolist(), ledger.chunk.tolist(), strict=True))
    assert len(pairs) == 4
    assert len({chunk for _, chunk in pairs}) == 3
    assert set(ledger.uses[ledger.commit == 0].tolist()) == {5}
    assert len(ledger.loose) == 1


def test_columns_read_as_texts_are_the_rows(catalogue: Catalogue):
    rows = [
        {"id": i, "name": f"{i:064x}", "bytes": i * i << 20, "frame_bytes": i % 7}
        for i in (*range(1, 500), 20_000, 20_001, 65_000)
    ]
    with catalogue.writing() as connection:
        connection.execute(insert(packs), rows)
    with catalogue.reading() as connection:
        found = read_table(connection, packs.c.id, [packs.c.id, packs.c.bytes])
        lists = dict(read_lists(connection, packs.c.frame_bytes, [packs.c.id], packs.c.id < 500))
        empty = read_table(connection, loose_files.c.id, [loose_files.c.id])
    assert dict(zip(*map(np.ndarray.tolist, found), strict=True)) == {
        row["id"]: row["bytes"] for row in rows
    }
    assert {key: sorted(ids[0].tolist()) for key, ids in lists.items()} == {
        rest: [i for i in range(1, 500) if i % 7 == rest] for rest in range(7)
    }
    assert empty[0].size == 0


def test_days_keep_their_last_record(catalogue: Catalogue):
    early = DayRow("2026-01-01", 10.0, 1, 1, 5, 4, 3, 2)
    late = DayRow("2026-01-01", 20.0, 2, 2, 6, 5, 4, 3)
    for row in (late, early, DayRow("2025-12-31", 1.0, 0, 0, 0, 0, 0, 0)):
        statistics.record_day(catalogue, row)
    assert [row.day for row in statistics.list_days(catalogue)] == ["2025-12-31", "2026-01-01"]
    assert statistics.last_day(catalogue) == late


def test_the_database_says_how_large_it_is(catalogue: Catalogue):
    before = statistics.database_bytes(catalogue)
    assert before is not None
    with catalogue.writing() as connection:
        connection.execute(insert(journal), [{"key": f"{i:0120}"} for i in range(20_000)])
    after = statistics.database_bytes(catalogue)
    assert after is not None
    assert after > before + 2_000_000
    with catalogue.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(journal)) == 20_000
