"""What two servers that share a catalogue do at once: one waits, or is told of a conflict."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from chunk_samples import digest, entry
from sqlalchemy import Connection, delete, insert, select, update

from weightvault.store.catalogue.access.received import note_received, received_among
from weightvault.store.catalogue.catalogue import Catalogue
from weightvault.store.catalogue.dependencies import hold_store
from weightvault.store.catalogue.files.hashes import HashRow, add_hashes, record_hashes
from weightvault.store.catalogue.moved_frames import settle_chunks
from weightvault.store.catalogue.queues.encode_queue import queue_chunks
from weightvault.store.catalogue.refs import change_ref, list_tags
from weightvault.store.catalogue.tables.rows import CommitRow
from weightvault.store.catalogue.tables.schema import chunks, commits, repos, tags
from weightvault.store.errors import Superseded

# Long enough for the other one to come to where it waits.
WAIT_SECONDS = 0.3
OIDS = ("1" * 40, "2" * 40)


@pytest.fixture
def catalogue(catalogue: Catalogue) -> Catalogue:
    """Two chunks that no commit needs, and a repo of two commits."""
    catalogue.add_pack("p", 1000, [entry("a"), entry("b")])
    for oid in OIDS:
        row = CommitRow(oid, "org/m", "main", None, oid, None, 1.0)
        catalogue.add_commit(row, [], {}, f"journal/{oid}")
    return catalogue


@contextmanager
def beside(catalogue: Catalogue, work: Callable[[], object]) -> Iterator[tuple[Connection, Future]]:
    """Begins `work` when what is done within is done, but not seen by others yet."""
    begin = threading.Event()
    with ThreadPoolExecutor(1) as other, catalogue.writing() as connection:
        done = other.submit(lambda: begin.wait() and work())
        yield connection, done
        begin.set()
        threading.Event().wait(WAIT_SECONDS)


def test_a_tag_that_both_make(catalogue: Catalogue):
    def ours() -> None:
        change_ref(catalogue, "org/m", "tag", "v1", OIDS[0], None, "journal/tag")

    with beside(catalogue, ours) as (connection, done):
        repo = connection.scalar(select(repos.c.id))
        theirs = connection.scalar(select(commits.c.id).where(commits.c.oid == OIDS[1]))
        connection.execute(insert(tags).values(repo_id=repo, name="v1", commit_id=theirs))
    if catalogue.engine.dialect.name == "postgresql":
        with pytest.raises(Superseded):
            done.result()
        ours()
    assert list_tags(catalogue, "org/m")["v1"].oid == OIDS[0]


@pytest.mark.parametrize("queue", [False, True])
def test_a_chunk_that_the_other_takes_away(catalogue: Catalogue, queue: bool):
    def note() -> None:
        if queue:
            queue_chunks(catalogue, [digest("a")])
        else:
            note_received(catalogue, "me", [digest("a")], 1.0, 0.0)

    with beside(catalogue, note) as (connection, done):
        hold_store(connection, exclusive=True)
        connection.execute(delete(chunks))
    done.result()
    assert received_among(catalogue, "me", [digest("a")], 0.0) == set()


def test_chunks_that_the_other_moves_in_another_order(catalogue: Catalogue):
    first, second = sorted([digest("a"), digest("b")])

    def move(connection: Connection, which: bytes) -> None:
        mine = chunks.c.digest == which
        connection.execute(update(chunks).where(mine).values(frame_bytes=chunks.c.frame_bytes + 1))

    with ThreadPoolExecutor(1) as other:
        with catalogue.writing() as connection:
            hold_store(connection, exclusive=True)
            move(connection, second)
            done = other.submit(settle_chunks, catalogue, [first, second])
            threading.Event().wait(WAIT_SECONDS)
            move(connection, first)
        done.result()


def test_rows_that_both_add_in_another_order(catalogue: Catalogue):
    rows = [HashRow(digest(name), b"s", b"g") for name in "ab"]
    first, second = sorted(rows, key=lambda row: row.digest)
    with ThreadPoolExecutor(1) as other:
        with catalogue.writing() as connection:
            add_hashes(connection, catalogue.add_once, [first])
            done = other.submit(record_hashes, catalogue, [second, first])
            threading.Event().wait(WAIT_SECONDS)
            add_hashes(connection, catalogue.add_once, [second])
        done.result()
