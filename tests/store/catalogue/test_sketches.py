"""Searching by content: what is found, what is not, and that nothing is ever scanned for it."""

import re
from dataclasses import replace
from typing import Any

import pytest
from chunk_samples import digest
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch_samples import add_commit, add_rows, flip_bits, make_row
from sqlalchemy import text

from weightvault.store.catalogue.catalogue import Catalogue, open_catalogue
from weightvault.store.catalogue.moved_frames import settle_chunks
from weightvault.store.catalogue.sketches import near, sharing
from weightvault.store.catalogue.sketches import sketches as search
from weightvault.store.catalogue.sketches.bands import band_values
from weightvault.store.catalogue.sketches.relatives import find_relatives, find_sharing
from weightvault.store.catalogue.tables.rows import SketchRow
from weightvault.store.catalogue.visibility import Scope


def found_bits(catalogue: Catalogue, row: SketchRow) -> set[bytes]:
    return {bits for _, bits in near.find_near(catalogue, row)}


@given(st.binary(min_size=32, max_size=32), st.integers(0, 511))
def test_bands_are_the_bits_and_the_kind(bits: bytes, kind: int):
    values = band_values(kind, bits)
    number = int.from_bytes(bits, "little")
    assert len(values) == 16
    for i in range(16):
        piece = sum((number >> ((16 * i + j) % 256) & 1) << j for j in range(20))
        expected = None if piece in (0, (1 << 20) - 1) else (kind << 20) + piece
        assert values[f"band{i}"] == expected
        assert expected is None or 0 <= expected < 1 << 31


def test_relatives_are_found_and_strangers_are_not(catalogue: Catalogue):
    rows = [make_row(i) for i in range(300)]
    add_rows(catalogue, "p", rows)
    assert all(row.bits in found_bits(catalogue, row) for row in rows)
    # In trained families the median is 1 bit of 256 and 18 the most: 7 %.
    seen = [row.bits in found_bits(catalogue, flip_bits(row, 6, i)) for i, row in enumerate(rows)]
    far = [row.bits in found_bits(catalogue, flip_bits(row, 13, i)) for i, row in enumerate(rows)]
    assert sum(seen) == 300
    assert sum(far) >= 288
    # By chance one in 2^20 / 16 shares a band.
    assert sum(len(found_bits(catalogue, make_row(("other", i)))) for i in range(300)) <= 20


@pytest.mark.parametrize(
    "change", [{"kind": 18}, {"kind": None}], ids=["another kind", "of no kind"]
)
def test_what_could_not_be_a_base_is_not_found(catalogue: Catalogue, change: dict[str, Any]):
    row = make_row("a")
    add_rows(catalogue, "p", [row])
    assert near.find_near(catalogue, make_row("a"))
    assert not near.find_near(catalogue, make_row("a", **change))


def test_only_chunks_that_stand_alone_are_found(catalogue: Catalogue):
    base = make_row("base")
    delta = flip_bits(base, 2, "delta")
    add_rows(catalogue, "p1", [base])
    add_rows(catalogue, "p2", [delta], base=base.digest)
    assert found_bits(catalogue, delta) == {base.bits}


def test_a_tensor_that_says_nothing_is_never_found(catalogue: Catalogue):
    flat = SketchRow(digest("flat"), 17, 12, 4096, bytes(32), b"")
    add_rows(catalogue, "p", [flat])
    assert near.find_near(catalogue, flat) == []


def ids_of(catalogue: Catalogue, rows: list[SketchRow]) -> list[int]:
    return [i for row in rows for i in search.find_ids(catalogue, [row.digest])]


def bands_of(row: SketchRow) -> set[tuple[str, int | None]]:
    values = band_values(row.kind, row.bits).items()
    return {(name, value) for name, value in values if value is not None}


def test_many_sketches_share_what_each_shares_alone(catalogue: Catalogue):
    """More of them than are asked for in one statement, some related, some flat, some of no
    kind."""
    rows = [make_row(i) for i in range(280)]
    rows += [flip_bits(rows[i], 3, ("near", i)) for i in range(40)]
    rows += [replace(make_row("flat"), bits=bytes(32)), make_row("none", kind=None)]
    add_rows(catalogue, "p", rows)
    ids = ids_of(catalogue, rows)
    bands = [bands_of(row) for row in rows]
    for row, mine, found in zip(rows, bands, sharing.share_bands(catalogue, rows), strict=True):
        pairs = zip(ids, bands, strict=True)
        assert found == {i: len(mine & theirs) for i, theirs in pairs if mine & theirs}
        assert found is not None
        assert {i for i, _ in near.find_near(catalogue, row)} <= found.keys()


def test_where_too_many_share_a_band_that_is_said(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
):
    rows = [make_row("a"), make_row("b")]
    others = [flip_bits(rows[0], 0, i) for i in range(60)]
    add_rows(catalogue, "p", [*rows, *others])
    few = sharing.share_bands(catalogue, rows)
    assert [len(ids or ()) for ids in few] == [61, 1]
    monkeypatch.setattr(sharing, "_SHARING_SOME", sharing._sharing_query(40))
    monkeypatch.setattr(sharing, "_MOST_ROWS", 40)
    assert sharing.share_bands(catalogue, rows) == [None, None]
    assert sharing.share_bands(catalogue, rows[1:]) == [few[1]]


def test_a_family_of_one_is_lonely(catalogue: Catalogue):
    alone, base, like = make_row("alone"), make_row("base"), make_row("near")
    delta = flip_bits(base, 2, "delta")
    other = flip_bits(like, 2, "other")
    flat = replace(make_row("flat"), bits=bytes(32))
    none = make_row("none", kind=None)
    add_rows(catalogue, "p1", [alone, base, like, other, flat, none])
    add_rows(catalogue, "p2", [delta], base=base.digest)
    rows = [alone, base, like, other, flat, none, delta]
    ids = ids_of(catalogue, rows)
    lonely = sharing.find_lonely(catalogue, search.read_family(catalogue, ids))
    assert lonely == {ids[rows.index(row)] for row in (alone, flat, none)}


def test_many_equal_sketches_bound_the_work(catalogue: Catalogue):
    row = make_row("a")
    add_rows(catalogue, "p", [row, *(flip_bits(row, 0, i) for i in range(500))])
    assert 64 <= len(near.find_near(catalogue, row)) <= 64 * 16


def test_centres_come_with_a_revision_to_read_them_through(catalogue: Catalogue):
    used, held, loose = make_row("used"), make_row("held"), make_row("loose")
    delta = flip_bits(held, 1, "delta")
    add_rows(catalogue, "p1", [used, held, loose])
    add_rows(catalogue, "p2", [delta], base=held.digest)
    first = add_commit(catalogue, "org/a", [used.digest])
    second = add_commit(catalogue, "org/b", [delta.digest])
    ids = [near.find_near(catalogue, row)[0][0] for row in (used, held, loose)]
    centres = search.read_centres(catalogue, ids)
    assert {c.sketch.digest: (c.repo, c.revision) for c in centres.values()} == {
        used.digest: ("org/a", first),
        # No commit needs it but through the delta on it.
        held.digest: ("org/b", second),
    }


def test_families_are_listed_with_their_deltas(catalogue: Catalogue):
    one, other = make_row("one"), make_row("other")
    deltas = [flip_bits(one, 1, i) for i in range(3)]
    add_rows(catalogue, "p1", [one, other])
    add_rows(catalogue, "p2", deltas, base=one.digest)
    first, second = search.list_centres(catalogue, 0, 10, uncoded=0)
    assert (first.sketch, second.sketch) == (one, other)
    assert search.list_centres(catalogue, first.chunk_id, 10, uncoded=0) == [second]
    family = search.read_family(catalogue, [first.chunk_id])
    assert {row.place.digest for row in family} == {one.digest, *(d.digest for d in deltas)}
    search.mark_planned(catalogue, first.chunk_id, 7)
    assert [row.planned for row in search.list_centres(catalogue, 0, 10, uncoded=0)] == [7, None]


def plan_lines(catalogue: Catalogue, statement: Any, values: dict[str, Any]) -> list[str]:
    """How the database says it would run the statement."""
    sql = str(
        statement.params(values).compile(
            catalogue.engine, compile_kwargs={"literal_binds": True, "render_postcompile": True}
        )
    )
    sqlite = catalogue.engine.dialect.name == "sqlite"
    with catalogue.reading() as connection:
        rows = connection.execute(text(f"EXPLAIN {'QUERY PLAN ' if sqlite else ''}{sql}"))
        return [str(row[-1]) for row in rows]


def test_the_search_scans_nothing(catalogue: Catalogue):
    rows = [make_row(i) for i in range(3000)]
    add_rows(catalogue, "p", rows)
    if catalogue.engine.dialect.name == "postgresql":
        # Which pages only hold rows that all may see is what VACUUM notes.
        with catalogue.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(text("VACUUM ANALYZE sketches"))
    values = {f"vband{i}": v for i, v in enumerate(band_values(17, rows[0].bits).values())}
    lines = plan_lines(catalogue, near._SHARING, values)
    alone = [line for line in lines if re.search(r"COVERING INDEX|Index Only Scan", line)]
    used = {name for line in alone for name in re.findall(r"sketches_band\d+", line)}
    assert len(used) == 16
    assert not [line for line in lines if re.search(r"SCAN sketches|Seq Scan on sketches", line)]
    scopes = (Scope(("org",), public=True), Scope(("people",), public=True))
    lines = plan_lines(catalogue, near._scoped_query(scopes), values)
    assert not [line for line in lines if re.search(r"SCAN sketches|Seq Scan on sketches", line)]
    if catalogue.engine.dialect.name == "sqlite":
        assert not [line for line in lines if re.search(r"SCAN (using|anon|commit|repos)", line)]


def test_chunks_of_others_hide_none_of_an_owner(catalogue: Catalogue):
    mine, asked = make_row("mine"), flip_bits(make_row("mine"), 6, "asked")
    add_rows(catalogue, "m", [mine])
    add_commit(catalogue, "me/model", [mine.digest])
    scopes = (Scope(("me",), public=True),)
    alone = near.find_near(catalogue, asked, scopes)
    assert [bits for _, bits in alone] == [mine.bits]
    flood = [flip_bits(asked, 1, number) for number in range(10_000)]
    add_rows(catalogue, "f", flood)
    add_commit(catalogue, "you/flood", [row.digest for row in flood])
    assert near.find_near(catalogue, asked, scopes) == alone
    assert len(near.find_near(catalogue, asked, (Scope(("you",)),))) > 64


def test_commits_of_others_crowd_out_no_relative(catalogue: Catalogue):
    shared = make_row("shared")
    add_rows(catalogue, "s", [shared])
    add_commit(catalogue, "me/model", [shared.digest])
    for number in range(70):
        add_commit(catalogue, f"you/{number}", [shared.digest])
    mine = (Scope(("me",), public=True),)
    for find in (find_sharing, find_relatives):
        assert [repo for repo, _ in find(catalogue, [shared.digest], mine, 6)] == ["me/model"]
        assert find(catalogue, [shared.digest], (*mine, Scope(("you",))), 6) == []
    newest = find_sharing(catalogue, [shared.digest], (), 6)
    assert sorted(repo for repo, _ in newest) == [f"you/{number}" for number in range(64, 70)]


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_deltas_are_one_deep_whatever_order_packs_come_in(tmp_path_factory, data: st.DataObject):
    """Each chunk has a frame of its own somewhere, others were coded against each other."""
    folder = tmp_path_factory.mktemp("order")
    catalogue = open_catalogue(f"sqlite:///{folder / 'c.sqlite'}")
    rows = [make_row(i) for i in range(5)]
    frames: list[tuple[int, int | None]] = [(i, None) for i in range(5)]
    others = st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(lambda pair: pair[0] != pair[1])
    frames += data.draw(st.lists(others, max_size=10, unique=True))
    for number, (i, base) in enumerate(data.draw(st.permutations(frames))):
        digest = None if base is None else rows[base].digest
        add_rows(catalogue, f"p{number}", [rows[i]], base=digest)
    settle_chunks(catalogue, [row.digest for row in rows])
    places = catalogue.locate([row.digest for row in rows])
    bases = {p.base for p in places.values() if p.base is not None}
    assert all(places[base].base is None for base in bases)
    found = {row.chunk_id for row in search.list_centres(catalogue, 0, 10, uncoded=0)}
    alone = {row.digest for row in rows if near.find_near(catalogue, row)}
    assert alone == {d for d, p in places.items() if p.base is None}
    assert len(found) == len(alone)
    catalogue.close()


def test_those_that_share_one_band_count_where_none_shares_more(catalogue: Catalogue):
    row = make_row("asked")
    number = int.from_bytes(row.bits, "little")
    # Bits 0-19 are the first band; all others are taken from an unrelated sketch, or are its own.
    first = (1 << 20) - 1
    by_chance = int.from_bytes(make_row("other").bits, "little") & ~first | number & first
    chance = replace(make_row("chance"), bits=by_chance.to_bytes(32, "little"))
    relative = flip_bits(row, 3, "relative")
    add_rows(catalogue, "p1", [chance])
    assert found_bits(catalogue, row) == {chance.bits}
    add_rows(catalogue, "p2", [relative])
    assert found_bits(catalogue, row) == {relative.bits}


def test_newcomers_and_how_many_came_before(catalogue: Catalogue):
    rows = [make_row(i) for i in range(4)]
    add_rows(catalogue, "p1", rows[:2])
    add_rows(catalogue, "p2", rows[2:], base=rows[0].digest)
    add_commit(catalogue, "org/old", [rows[0].digest, rows[1].digest])
    oid = add_commit(catalogue, "org/new", [row.digest for row in rows[1:]])
    found = search.list_newcomers(catalogue, "org/new", oid, 0, 10)
    assert {row.place.digest for row in found} == {rows[2].digest, rows[3].digest}
    ids = [row.chunk_id for row in found]
    assert search.list_newcomers(catalogue, "org/new", oid, ids[0], 10) == found[1:]
    centre = search.find_ids(catalogue, [rows[0].digest])
    assert [search.count_arrived(catalogue, centre, i) for i in ids] == [2, 3]
    assert search.count_arrived(catalogue, centre, min(centre)) == 1
