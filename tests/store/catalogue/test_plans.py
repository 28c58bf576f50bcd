"""Every query that runs often goes through an index, on both databases, where tables have so many
rows, and planners such statistics, that they choose between an index and a scan themselves."""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, insert, text

from weightvault.benchmarks.support.large_vaults import Shape, fill_catalogue
from weightvault.store.catalogue import damage, owners, tombstones
from weightvault.store.catalogue.catalogue import Catalogue, open_catalogue
from weightvault.store.catalogue.dependencies import usable_among
from weightvault.store.catalogue.edges import inputs_among
from weightvault.store.catalogue.files.known_files import known_files
from weightvault.store.catalogue.queues import encode_queue
from weightvault.store.catalogue.refs import commits_of, first_created
from weightvault.store.catalogue.repo_list import Wanted, list_rows
from weightvault.store.catalogue.reports import lineage, pages
from weightvault.store.catalogue.sketches import near, peers, relatives, sharing, sketches
from weightvault.store.catalogue.tables import schema
from weightvault.store.catalogue.tables.rows import CommitRow, FileRow, SketchRow
from weightvault.store.catalogue.tables.schema import BANDS
from weightvault.store.catalogue.visibility import EVERYTHING, Scope
from weightvault.store.packs import PackEntry

ROWS = 3000


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def catalogue(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    """One in which a scan costs more than some look-ups, and less than those that a planner expects
    of a query it does not see through."""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_server").new_url()
    else:
        url = f"sqlite:///{tmp_path_factory.mktemp('plans') / 'c.sqlite'}"
    made = open_catalogue(url)
    fill_catalogue(made, Shape(1000, tensors=100, shared=50))
    add_bare(made)
    for number in range(10):
        fill(made, number)
    add_waiting(made)
    with made.writing() as connection:
        owners.choose_sharing(connection, "own")
    with made.engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    yield made
    made.close()


def add_bare(made: Catalogue, count: int = 30_000) -> None:
    """Adds packs of which nothing is in use, and repos whose commits have a file and no chunk."""
    packs = [
        {"name": digest("bare", i).hex(), "bytes": 100, "frame_bytes": 50} for i in range(count)
    ]
    names = [{"name": f"bare-{i % 97}/{i}"} for i in range(count)]
    with made.engine.begin() as connection:
        connection.execute(insert(schema.packs), packs)
        connection.execute(insert(schema.repos), names)
        for statement in _BARE:
            blob = "bytea" if made.engine.dialect.name == "postgresql" else "blob"
            connection.execute(text(statement.replace("_BLOB_", blob)))


def add_waiting(made: Catalogue) -> None:
    """Adds uploads of chunks, chunks that wait to be encoded, and second frames."""
    with made.engine.begin() as connection:
        for statement in _WAITING:
            connection.execute(text(statement))


_WAITING = (
    "INSERT INTO loose_files (id, sha256, repo, digest, recipe, bytes, manifest, expires) "
    "SELECT id, digest, 'org/3-0', digest, digest, 1, 'none', 9e9 FROM chunks WHERE id % 5 = 0",
    "INSERT INTO loose_chunks (loose_id, chunk_id) SELECT id, id FROM loose_files",
    "INSERT INTO uncoded (chunk_id, claimed) SELECT id, 0 FROM chunks WHERE id % 5 = 1",
    'INSERT INTO spares (pack_id, "offset", chunk_id, frame_bytes, codec, level) '
    'SELECT pack_id, "offset" + 1000000000000, id, 1, 1, 0 FROM chunks WHERE id % 5 = 2',
)

_BARE = (
    "INSERT INTO commits (repo_id, oid, branch, manifest, created) "
    "SELECT id, substr(name || '-1111111111111111111111111111111111111111', 1, 40), 'main', "
    "name, 1.0 FROM repos WHERE name LIKE 'bare-%'",
    "INSERT INTO refs (repo_id, name, commit_id) SELECT commits.repo_id, 'main', commits.id "
    "FROM commits JOIN repos ON repos.id = repo_id WHERE repos.name LIKE 'bare-%'",
    "UPDATE repos SET newest = (SELECT MAX(commit_id) FROM refs WHERE repo_id = repos.id)",
    "INSERT INTO files (commit_id, path, bytes, digest, recipe, tensors) SELECT commits.id, 'a', "
    "1, CAST(name AS _BLOB_), CAST(name AS _BLOB_), 0 "
    "FROM commits JOIN repos ON repos.id = repo_id WHERE repos.name LIKE 'bare-%'",
)


def digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def fill(made: Catalogue, number: int) -> None:
    """A pack of deltas on the first pack's frames, and a commit of its own for each tenth."""
    base = [None if number == 0 else digest(0, i) for i in range(ROWS // 10)]
    entries = [
        PackEntry(digest(number, i), 8 + i, 1, 10, 1, 1, (b,) if b else ())
        for i, b in enumerate(base)
    ]
    name = digest("pack", number).hex()
    made.add_pack(name, 1000, entries)
    made.add_pack(digest("copy", number).hex(), 1000, entries)
    for part in range(10):
        mine = [e.digest for e in entries[part * 30 : part * 30 + 30]]
        key = f"journal/{number:04}{part:04}"
        oid = digest(key).hex()[:40]
        row = CommitRow(oid, f"org/{number}-{part}", "main", None, name, None, 1.0)
        made.add_commit(row, [FileRow("f", 1, mine[0], mine[1], 1)], dict.fromkeys(mine, 0), key)


def plans(made: Catalogue, work) -> list[str]:
    """The plans of all queries that `work` runs."""
    seen: list[tuple[str, Any]] = []

    def note(_c, _u, statement: str, parameters, *_) -> None:
        seen.append((statement, parameters))

    event.listen(made.engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(made.engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN " if made.engine.dialect.name == "sqlite" else "EXPLAIN "
    found = []
    with made.engine.connect() as connection:
        for statement, parameters in seen:
            if statement.lstrip().startswith(("SELECT", "WITH")) and "advisory" not in statement:
                rows = connection.exec_driver_sql(explain + statement, parameters)
                found.append(statement + "\n" + "\n".join(str(row[-1]) for row in rows))
        connection.rollback()
    assert found
    return found


def one(number: int = 3) -> list[bytes]:
    return [digest(number, i) for i in range(5)]


def oid(number: int = 3) -> str:
    return digest(f"journal/{number:04}0000").hex()[:40]


def usable(made: Catalogue) -> set[bytes]:
    with made.reading() as connection:
        return usable_among(connection, one())


def asked(question, *arguments):
    """Asks something of a transaction."""

    def ask(made: Catalogue) -> None:
        with made.writing() as connection:
            question(connection, *arguments)

    return ask


OTHERS = peers.Peers(("weights",), sharing=owners.Sharing.OWN)
OWNER = (Scope(("org",), public=True),)

HOT = {
    "violating_among": asked(owners.violating_among, range(53_400, 53_410)),
    "allowed_among": asked(owners.allowed_among, 53_400, one(0)),
    "queue_new_owner": asked(owners.queue_new_owner, 31_030),
    "queue_dependents": asked(owners.queue_dependents, [50_501, 50_502, 50_503]),
    "chunks_of_repo": asked(owners.chunks_of_repo, "org/3-0"),
    "audit_bases": asked(owners.audit_bases, 10),
    "read_ownership": lambda c: encode_queue.read_ownership(c, [53_400, 53_401]),
    "peers_of": lambda c: peers.peers_of(c, 53_400),
    "other_groups_on": lambda c: peers.other_groups_on(c, OTHERS, 1),
    "read_centres of an owner": lambda c: sketches.read_centres(c, [1, 2], OWNER),
    "list_newcomers of an owner": lambda c: sketches.list_newcomers(
        c, "org/3-0", oid(), 0, 100, OWNER[0]
    ),
    "find_missing": usable,
    "locate": lambda c: c.locate(one()),
    "known": lambda c: c.known(one()),
    "find_commit": lambda c: c.find_commit("org/3-0", "main"),
    "find_commit by id": lambda c: c.find_commit("org/3-0", oid()),
    "chunks_of": lambda c: c.chunks_of("org/3-0", oid(), one()),
    "known_files": lambda c: known_files(c, [(digest(3, 0), digest(3, 1))]),
    "branches": lambda c: c.branches("org/3-0"),
    "unknown_entries": lambda c: c.unknown_entries(["journal/00030000"]),
    "last_entry": lambda c: c.last_entry(),
    "chunks_in": lambda c: c.chunks_in(digest("pack", 3).hex()),
    "packs_holding": lambda c: tombstones.packs_holding(c, one()),
    "tombstones_among": lambda c: tombstones.tombstones_among(c, ["packs/ab/x"]),
    "repos_needing": lambda c: c.repos_needing(digest("pack", 9).hex()),
    "claim_chunks": lambda c: encode_queue.return_chunks(
        c, [row.chunk_id for row in encode_queue.claim_chunks(c, 2.0, 3.0, 10, 1000)]
    ),
    "list_centres": lambda c: sketches.list_centres(c, 20_000, 100, uncoded=0),
    "find_near": lambda c: near.find_near(c, SketchRow(one()[0], 1, 12, 4096, digest("bits"), b"")),
    "find_deltas": lambda c: near.find_deltas(c, [1, 2], OWNER, [12]),
    "find_sharing": lambda c: relatives.find_sharing(c, one(0), OWNER, 5),
    "find_relatives": lambda c: relatives.find_relatives(c, one(0), OWNER, 5),
    "commits_of": lambda c: commits_of(c, "org/3-0"),
    "live_places": lambda c: tombstones.live_places(c, digest("pack", 3).hex()),
    "copies_of": lambda c: damage.copies_of(c, one()[0]),
    "frames_in": lambda c: damage.frames_in(c, 4),
    "list_newcomers": lambda c: sketches.list_newcomers(c, "org/3-0", oid(), 0, 100),
    "read_family": lambda c: sketches.read_family(c, [1, 50_501]),
    "find_lonely": lambda c: sharing.find_lonely(c, sketches.read_family(c, [1, 50_501])),
    "inputs_among": asked(lambda connection: connection.execute(inputs_among(one(0)))),
    "share_bands": lambda c: sharing.share_bands(
        c, [SketchRow(one()[0], 17, 12, 4096, digest("bits", i), b"") for i in range(300)]
    ),
    "count_arrived": lambda c: sketches.count_arrived(c, [1, 2], 400),
    "commits_using": lambda c: damage.commits_using(c, one()),
    "a page by name": lambda c: pages.list_page(c, order="name", cursor="org/3", limit=5),
    "a page by update": lambda c: pages.list_page(
        c, order="updated", cursor=f"org/3-0@{oid()}", limit=5
    ),
    "a page of a namespace": lambda c: pages.list_page(
        c, order="updated", limit=5, seen=Scope(("org", "bare-3"), public=True)
    ),
    "a page of a kind": lambda c: pages.list_lines(
        c, Wanted(kind="models", open_copies=True), "updated", 5, descending=True
    ),
    "a page of an author": lambda c: pages.list_lines(
        c, Wanted(kind="models", namespace="org", words=("3",)), "name", 5
    ),
    "a page of ls": lambda c: list_rows(c, Wanted(), 5, "org/3"),
    "first_created": lambda c: first_created(c, "org/3-0"),
    "list_history": lambda c: pages.list_history(c, "org/3-0", oid(), 5),
    "frames_of": lambda c: pages.frames_of(c, one()),
    "codecs_of": lambda c: pages.codecs_of(c, "org/3-0", oid()),
    "base_bytes": lambda c: pages.base_bytes(c, "org/3-0", oid()),
    "centres_of": lambda c: lineage.centres_of(c, "org/3-0", EVERYTHING),
    "first_repos": lambda c: lineage.first_repos(c, one(), EVERYTHING),
    "users_of": lambda c: lineage.users_of(c, one(0)[:1], EVERYTHING),
    "sizes_of": lambda c: lineage.sizes_of(c, ["org/3-0", "org/3-1"]),
}
# Tables of a few rows, of facts and of what is wrong.
SMALL = ("mirrors", "settings", "quotas", "tombstones", "damage", "verified")
# What a query has found so far, or was given.
INTERIM = ("its_base", "its_uses", "its_sums", "first_use", "chain", "asked", "CONSTANT")
# The first rows by each of several indexes, with a limit.
INTERIM += ("found", "page0", "page1", "page2")
# What is followed of edges, from a few rows on.
INTERIM += ("above", "under")
# What was looked up for each band of sketches, with a limit.
INTERIM += tuple(f"part{i}" for i in range(BANDS))


def scans_in(plan: str) -> Iterator[str]:
    """Yields the lines of a plan that read a table that grows, or an index of one, from one end to
    the other. What stops at a limit, going by an index, does not."""
    limited = "LIMIT" in plan
    lines = plan.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        found = _SCAN.search(line)
        if found and found["table"] not in SMALL + INTERIM:
            # A walk by the key of rows is one by an index, too, where nothing is sorted after it.
            by_key = line.startswith("SCAN ") and limited and "TEMP B-TREE" not in plan
            by_index = "USING" in line or "using" in line or by_key
            if not by_index or not (limited or "Index Cond" in following):
                yield line


# SQLite says SCAN a, or SCAN a USING INDEX b; PostgreSQL Seq Scan on a, or Index Scan using b on a.
_SCAN = re.compile(r"(?:^SCAN |Seq Scan on |Index (?:Only )?Scan.* using \w+ on )(?P<table>\w+)")


@pytest.mark.parametrize("name", HOT)
def test_no_hot_query_reads_a_whole_table(catalogue: Catalogue, name: str):
    for plan in plans(catalogue, lambda: HOT[name](catalogue)):
        assert not list(scans_in(plan)), plan


@pytest.mark.parametrize("oid", ["1" * 40])
def test_a_commit_finds_what_it_needs_by_index(catalogue: Catalogue, oid: str):
    row = CommitRow(oid, "org/new", "main", None, "m" * 64, None, 1.0)
    used = [digest(3, i) for i in range(5)]

    def commit() -> None:
        uses = dict.fromkeys(used, 0)
        catalogue.add_commit(row, [FileRow("f", 1, used[0], used[1], 1)], uses, "journal/new")

    for plan in plans(catalogue, commit):
        assert not list(scans_in(plan)), plan
