"""The catalogue: rows in, answers out, and what several writers do to each other."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from chunk_samples import digest, entry

from weightvault.store.catalogue.catalogue import Catalogue, open_catalogue
from weightvault.store.catalogue.tables.rows import CommitRow, FileRow
from weightvault.store.errors import CorruptObject, NotFound, UnsupportedFormat


def commit(oid: str, repo: str = "org/m", branch: str = "main", created: float = 1.0) -> CommitRow:
    return CommitRow(oid * 40, repo, branch, None, oid * 64, None, created)


def add(catalogue: Catalogue, row: CommitRow, *names: object) -> None:
    files = [FileRow("f", 200 * len(names), digest("file", names), digest("recipe", names), 1)]
    uses = {digest(n): 0 for n in names}
    catalogue.add_commit(row, files, uses, f"journal/{row.oid}{row.repo}")


def test_chunks_are_found_where_they_were_put(catalogue: Catalogue):
    assert catalogue.add_pack("p1", 1000, [entry("a"), entry("b", base="a", offset=108)]) == 2
    assert catalogue.known([digest("a"), digest("x")]) == {digest("a"): 200}
    place = catalogue.locate([digest("b")])[digest("b")]
    assert (place.pack, place.offset, place.frame_bytes) == ("p1", 108, 100)
    assert place.base == digest("a")


def test_a_chunk_keeps_its_first_frame(catalogue: Catalogue):
    catalogue.add_pack("p1", 1000, [entry("a")])
    assert catalogue.add_pack("p2", 1000, [entry("a", offset=50), entry("b")]) == 1
    assert catalogue.add_pack("p2", 1000, [entry("a", offset=50), entry("b")]) == 0
    assert catalogue.locate([digest("a")])[digest("a")].pack == "p1"


def test_more_digests_than_a_statement_takes(catalogue: Catalogue):
    entries = [entry(i, offset=8 + 100 * i) for i in range(2500)]
    assert catalogue.add_pack("p", 1, entries) == 2500
    wanted = [digest(i) for i in range(5000)]
    assert len(catalogue.known(wanted)) == 2500
    catalogue.add_commit(commit("1"), [], dict.fromkeys(wanted[:2500], 0), "journal/1")
    assert catalogue.chunks_of("org/m", "1" * 40, wanted) == set(wanted[:2500])


def test_branch_moves_and_history_stays(catalogue: Catalogue):
    catalogue.add_pack("p", 1000, [entry("a"), entry("b")])
    add(catalogue, commit("1"), "a")
    add(catalogue, commit("2", created=2.0), "b")
    found = catalogue.find_commit("org/m", "main")
    assert found is not None
    assert found.oid == "2" * 40
    assert catalogue.find_commit("org/m", "1" * 40) == commit("1")
    assert catalogue.find_commit("org/m", "dev") is None
    assert catalogue.find_commit("org/x", "main") is None
    assert [c.oid[0] for c in catalogue.all_commits()] == ["1", "2"]


def test_an_entry_counts_once(catalogue: Catalogue):
    catalogue.add_pack("p", 1000, [entry("a"), entry("b")])
    add(catalogue, commit("1"), "a")
    add(catalogue, commit("2"), "b")
    add(catalogue, commit("1"), "a")
    found = catalogue.find_commit("org/m", "main")
    assert found is not None
    assert found.oid == "2" * 40


def test_commit_of_unknown_chunks_changes_nothing(catalogue: Catalogue):
    with pytest.raises(NotFound):
        add(catalogue, commit("1"), "never stored")
    assert not catalogue.has_repo("org/m")
    assert catalogue.unknown_entries(["journal/x"]) == ["journal/x"]


def test_bases_belong_to_a_commit(catalogue: Catalogue):
    catalogue.add_pack("p", 1000, [entry("a"), entry("b", base="a"), entry("c")])
    add(catalogue, commit("1"), "b")
    asked = [digest(n) for n in "abc"]
    assert catalogue.chunks_of("org/m", "1" * 40, asked) == {digest("a"), digest("b")}
    assert catalogue.repos_needing("p") == ["org/m"]


def test_deletion_takes_commits_along(catalogue: Catalogue):
    catalogue.add_pack("p", 1000, [entry("a")])
    add(catalogue, commit("1"), "a")
    add(catalogue, commit("1", repo="org/n"), "a")
    catalogue.delete_repo("org/m", "journal/d")
    assert [r.name for r in catalogue.list_repos()] == ["org/n"]
    assert catalogue.known([digest("a")])
    assert [row.repo for row in catalogue.all_commits()] == ["org/n"]


def test_writers_at_once_all_get_in(catalogue: Catalogue):
    """Several processes write to one database; here each has a catalogue of its own."""
    url = catalogue.engine.url.render_as_string(hide_password=False)
    others = [open_catalogue(url) for _ in range(4)]

    def write(number: int) -> None:
        mine = others[number % 4]
        mine.add_pack(f"p{number}", 1, [entry(("own", number)), entry("common")])
        add(mine, commit("1", repo=f"org/r{number}"), ("own", number), "common")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(40)))
    assert len(catalogue.list_repos()) == 40
    names = ["common", *(("own", number) for number in range(40))]
    assert len(catalogue.known([digest(name) for name in names])) == 41
    for other in others:
        other.close()


def test_journal_keys_seen_and_not(catalogue: Catalogue):
    catalogue.add_pack("p", 1000, [entry("a")])
    assert catalogue.last_entry() is None
    catalogue.add_commit(commit("1"), [], {digest("a"): 0}, "journal/5")
    assert catalogue.last_entry() == "journal/5"
    assert catalogue.unknown_entries(["journal/7", "journal/5", "journal/4"]) == [
        "journal/4",
        "journal/7",
    ]


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", ""])
def test_wrong_addresses(url: str):
    with pytest.raises(ValueError, match=r"catalogue|database"):
        open_catalogue(url)


def test_a_file_that_is_no_database(tmp_path: Path):
    path = tmp_path / "c.sqlite"
    path.write_bytes(b"something else entirely " * 100)
    with pytest.raises(CorruptObject, match="damaged"):
        open_catalogue(f"sqlite:///{path}")


def test_newer_schema_is_refused(catalogue: Catalogue):
    with catalogue.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UnsupportedFormat, match="9999"):
        open_catalogue(catalogue.engine.url.render_as_string(hide_password=False))


def test_what_sqlite_confirms_survives_a_power_cut(tmp_path: Path):
    """A collection deletes objects after the transaction that forgot them."""
    catalogue = open_catalogue(f"sqlite:///{tmp_path / 'c.sqlite'}")
    with catalogue.writing() as connection:
        read = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("synchronous", "journal_mode", "foreign_keys")
        }
    catalogue.close()
    assert read == {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1}
