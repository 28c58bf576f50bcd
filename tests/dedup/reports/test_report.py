"""Reports add up: by hand on small vaults, to the byte of what the store lists on random ones."""

import time
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.stateful import invariant, rule
from machines import ModelMachine, at_length, brief
from models import make_weights, read_folder, tune, write_model
from report_checks import ALL, check_report

from weightvault.dedup.errors import InvalidInput, Unreachable
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.model.report import Query, to_json
from weightvault.dedup.reports import growth
from weightvault.dedup.reports.attribution import find_partners, find_reach, split_frames, sum_by
from weightvault.dedup.transfer.push import push
from weightvault.store.catalogue.catalogue import open_catalogue
from weightvault.store.catalogue.reports.needs import make_needs
from weightvault.store.catalogue.reports.statistics import DayRow, list_days, record_day
from weightvault.store.errors import Unavailable


def test_report_adds_up(local: LocalVault, model: Path, tmp_path: Path):
    push(local, model, "org/m")
    push(local, model, "org/copy")
    push(local, write_model(tmp_path / "t", tune(make_weights(1), 2)), "org/t", base="org/m")
    report = local.report(ALL)
    check_report(local, report)
    size = sum(map(len, read_folder(model).values()))
    assert (report.logical, report.garbage, report.missing) == (3 * size, 0, 0)
    assert report.distinct_files < 2 * size
    assert report.stages.files == 3 * size - report.distinct_files
    assert report.stages.deltas > report.stages.coding > 0
    by_name = {r.name: r for r in report.by_repo}
    assert by_name["org/m"].exclusive == by_name["org/copy"].exclusive == 0
    assert by_name["org/t"].exclusive > 0
    # The weights' bases; the bias is too small for a delta to pay and has none.
    assert 0 < by_name["org/t"].shared < by_name["org/m"].shared == by_name["org/copy"].shared
    assert [p.name for p in by_name["org/t"].partners] == ["org/copy", "org/m"]
    assert by_name["org/t"].partners[0].bytes == by_name["org/t"].shared
    formats = {row.name: row for row in report.breakdown("format").rows}
    assert formats.keys() == {"safetensors", "json"}
    assert {row.name for row in report.breakdown("dtype").rows} == {"BF16", "U8"}
    (revision,) = [r for r in report.breakdown("revision").rows if r.name.startswith("org/t@")]
    assert (revision.label, revision.exclusive) == ("main", by_name["org/t"].exclusive)


def test_the_largest_rows_and_the_others_make_all(local: LocalVault, tmp_path: Path):
    for i in range(4):
        push(local, write_model(tmp_path / str(i), make_weights(i)), f"org/{i}")
    every, two = local.report(Query(("repo",))), local.report(Query(("repo",), top=2))
    shown = two.breakdown("repo")
    assert shown.rows == every.by_repo[:2]
    assert shown.count == 4
    assert shown.others is not None
    assert shown.others.billed + sum(row.billed for row in shown.rows) == two.frames


def test_deletion_makes_garbage_of_what_was_exclusive(
    local: LocalVault, model: Path, tmp_path: Path
):
    push(local, model, "org/m")
    push(local, write_model(tmp_path / "o", make_weights(9)), "org/other")
    before = local.report()
    exclusive = local.describe_repo("org/other").cost.exclusive
    assert exclusive == {row.name: row.exclusive for row in before.by_repo}["org/other"]
    local.delete_repo("org/other")
    after = local.report(ALL)
    check_report(local, after)
    assert before.frames - after.frames == exclusive
    # Its pack, the sketches beside it, its manifest.
    assert after.garbage_parts.objects == 3
    assert after.garbage_parts.retired == 0
    Collector(local, grace_seconds=3600, now=lambda: time.time() + 1e6).run()
    waiting = local.report()
    assert waiting.garbage == after.garbage
    assert waiting.garbage_parts.retired_bytes == waiting.garbage_parts.objects_bytes
    assert waiting.garbage_parts.ends is not None


def test_a_base_that_only_deltas_need_is_theirs(local: LocalVault, model: Path, tmp_path: Path):
    push(local, model, "org/m")
    for i in (2, 3):
        tuned = write_model(tmp_path / str(i), tune(make_weights(1), i))
        push(local, tuned, f"org/t{i}", base="org/m")
    local.delete_repo("org/m")
    report = local.report(ALL)
    check_report(local, report)
    rows = {row.name: row for row in report.by_repo}
    assert rows.keys() == {"org/t2", "org/t3"}
    assert rows["org/t2"].shared == rows["org/t3"].shared > 0
    halves = {row.attributed for row in rows.values()}
    assert sum(row.attributed for row in rows.values()) == rows["org/t2"].shared
    assert max(halves) - min(halves) <= rows["org/t2"].shared % 2 + 1


def test_uploads_without_a_commit_have_a_row(local: LocalVault, model: Path):
    from sqlalchemy import insert, select

    from weightvault.store.catalogue.tables.schema import chunks, loose_chunks, loose_files

    push(local, model, "org/m")
    push(local, model, "org/n")
    local.delete_repo("org/m")
    with local.catalogue.writing() as connection:
        facts = dict.fromkeys(("sha256", "digest", "recipe"), b"1" * 32)
        more = {"repo": "org/u", "bytes": 1, "manifest": "1" * 64, "expires": 9e9}
        made = connection.execute(insert(loose_files).values(facts | more)).inserted_primary_key
        assert made is not None
        for (chunk,) in connection.execute(select(chunks.c.id)).all():
            connection.execute(insert(loose_chunks).values(loose_id=made[0], chunk_id=chunk))
    shared = local.report(ALL)
    check_report(local, shared)
    assert shared.uploads == 0
    assert {row.name for row in shared.by_repo} == {"org/n", "(uploads)"}
    local.delete_repo("org/n")
    alone = local.report(ALL)
    check_report(local, alone)
    assert alone.uploads == alone.frames > 0
    (row,) = alone.by_repo
    assert (row.name, row.exclusive) == ("(uploads)", alone.frames)


def test_an_empty_vault(local: LocalVault):
    report = local.report(ALL)
    assert (report.logical, report.frames, report.by_repo) == (0, 0, ())
    assert report.stored == report.metadata


def test_days_go_on_record_and_are_worked_out_where_they_did_not(
    local: LocalVault, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    push(local, model, "org/m")
    monkeypatch.setattr(time, "time", lambda: 1_900_000_000.0)
    push(local, write_model(tmp_path / "o", make_weights(9)), "org/other")
    first, second = local.report().growth
    assert not first.recorded
    assert (first.repos, first.commits, first.stored) == (1, 1, None)
    assert (second.day, second.repos, second.recorded) == ("2030-03-17", 2, True)
    assert 0 < first.unique < second.unique == local.report().unique
    assert first.logical < second.logical
    assert first.frames < second.frames == local.report().frames
    assert [row.day for row in list_days(local.catalogue)] == ["2030-03-17"]
    assert local.report(Query(since="2030-01-01")).growth == (second,)
    record_day(local.catalogue, DayRow(first.day, 1.0, 7, 7, 7, 7, 7, 7))
    again = local.report().growth
    assert (again[0].repos, again[0].recorded, len(again)) == (7, True, 2)
    rebuild_catalogue(local.backend, local.catalogue)
    assert local.report().growth == again
    # What was recorded is lost with the database; what commits tell is not.
    empty = open_catalogue(f"sqlite:///{tmp_path / 'new.sqlite'}")
    anew = LocalVault(local.backend, empty, scratch=tmp_path)
    assert anew.report().growth == (first, second)
    empty.close()


def test_a_day_is_recorded_once_an_hour(local: LocalVault, monkeypatch: pytest.MonkeyPatch):
    local.report()
    (row,) = list_days(local.catalogue)
    assert not growth.wants_record(local.catalogue, row.at + 60)
    assert growth.wants_record(local.catalogue, row.at + 3700)
    assert growth.wants_record(local.catalogue, row.at + 86400)


def test_a_report_comes_though_its_day_cannot_be_recorded(
    local: LocalVault, model: Path, monkeypatch: pytest.MonkeyPatch
):
    push(local, model, "org/m")

    def refuse(*_: object) -> None:
        raise Unavailable("somebody else is writing")

    monkeypatch.setattr(growth, "record", refuse)
    assert local.report().repos == 1
    with pytest.raises(Unreachable):
        local.record_totals()


@pytest.mark.parametrize(
    "query",
    [Query(("colour",)), Query(top=0), Query(since="yesterday")],  # type: ignore[arg-type]
    ids=repr,
)
def test_queries_that_cannot_be(local: LocalVault, query: Query):
    with pytest.raises(InvalidInput):
        local.report(query)


def test_json_has_the_sums(local: LocalVault, model: Path):
    push(local, model, "org/m")
    report = local.report(ALL)
    document = to_json(report)
    assert document["metadata"] == report.metadata
    assert document["breakdowns"][0]["rows"][0]["billed"] == report.frames
    assert document["waterfall"][0]["bytes"] == report.logical


# Attribution alone


@st.composite
def ledgers(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[int], list[int], int]:
    """References, bases and sizes of random chunks, and the number of owners."""
    chunks, owners = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    alone = draw(st.lists(st.booleans(), min_size=chunks, max_size=chunks))
    standing = [i for i in range(chunks) if alone[i]]
    base = [
        draw(st.sampled_from(standing)) if standing and not alone[i] else -1 for i in range(chunks)
    ]
    sizes = draw(st.lists(st.integers(1, 1 << 60), min_size=chunks, max_size=chunks))
    pair = st.tuples(st.integers(0, owners - 1), st.integers(0, chunks - 1))
    return draw(st.lists(pair, max_size=40)), base, sizes, owners


@given(ledgers())
@settings(deadline=None)
def test_frames_are_split_to_the_byte(ledger):
    references, base, sizes, owners = ledger
    owner = np.array([o for o, _ in references], np.int32)
    chunk = np.array([c for _, c in references], np.int32)
    frames = np.array(sizes, np.int64)
    edges = np.array([(c, b) for c, b in enumerate(base) if b >= 0], np.int32).reshape(-1, 2)
    needs = make_needs(len(base), edges[:, 0], edges[:, 1])
    reach = find_reach(owner, chunk, needs, owners)
    shares = split_frames(reach, frames, frames, owners)

    reached: dict[int, set[int]] = {}
    for o, c in references:
        for each in (c, base[c]):
            if each >= 0:
                reached.setdefault(each, set()).add(o)
    for o in range(owners):
        own = [c for c, who in reached.items() if who == {o}]
        common = [c for c, who in reached.items() if o in who and len(who) > 1]
        assert shares.exclusive[o] == sum(sizes[c] for c in own)
        assert shares.shared[o] == sum(sizes[c] for c in common)
        parts = (divmod(sizes[c], len(reached[c])) for c in common)
        places = (sorted(reached[c]).index(o) for c in common)
        assert shares.attributed[o] == sum(
            part + (place < rest) for (part, rest), place in zip(parts, places, strict=True)
        )
        used = {c for who, c in references if who == o}
        assert shares.unique[o] == sum(sizes[c] for c in used)
        others = {
            p: sum(sizes[c] for c, who in reached.items() if {o, p} <= who)
            for p in range(owners)
            if p != o
        }
        ranked = sorted((-size, p) for p, size in others.items() if size)
        assert find_partners(reach, o, frames, 3) == [(p, -size) for size, p in ranked][:3]
    assert sum(shares.exclusive + shares.attributed) == sum(sizes[c] for c in reached)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1 << 58))))
def test_sums_by_index_are_exact(values: list[tuple[int, int]]):
    index = np.array([i for i, _ in values], np.int64)
    sizes = np.array([v for _, v in values], np.int64)
    expected = [sum(v for i, v in values if i == k) for k in range(4)]
    assert sum_by(index, sizes, 4).tolist() == expected


# Whole vaults


SHAPES = {"w": (24, 32), "v": (40, 16), "b": (64,)}
REPO = st.sampled_from(["org/a", "org/b", "other/a", "other/c"])
SEED = st.integers(0, 11)


class ReportMachine(ModelMachine):
    """Pushes, deletions, collections and plans; after each, the report adds up."""

    shapes = SHAPES

    def __init__(self) -> None:
        super().__init__()
        self.held: set[str] = set()

    @rule(repo=REPO, seed=SEED)
    def push(self, repo: str, seed: int) -> None:
        push(self.vault, self.source(seed), repo)
        self.held.add(repo)

    @rule(repo=REPO, seed=SEED)
    def push_branch(self, repo: str, seed: int) -> None:
        push(self.vault, self.source(seed), repo, "dev/x")
        self.held.add(repo)

    @rule(repo=REPO)
    def delete(self, repo: str) -> None:
        if repo in self.held:
            self.vault.delete_repo(repo)
            self.held.discard(repo)

    @rule(dead=st.sampled_from([0.01, 0.5]), copies=st.sampled_from([None, 2]))
    def collect(self, dead: float, copies: int | None) -> None:
        self.vault.keep_base_copies(copies or 0)
        Collector(self.vault, grace_seconds=0, dead_share=dead, copies_from=copies).run()
        assert self.vault.report().garbage_parts.objects == 0

    @rule()
    def retire(self) -> None:
        """The first half of a collection: tombstones, and nothing removed."""
        later = time.time() + 100
        Collector(self.vault, grace_seconds=50, now=lambda: later).run()

    @rule()
    def rebuild(self) -> None:
        if self.held:
            before = self.vault.report(ALL)
            rebuild_catalogue(self.vault.backend, self.vault.catalogue)
            after = self.vault.report(ALL)
            assert after.breakdown("repo") == before.breakdown("repo")

    @invariant()
    def adds_up(self) -> None:
        report = self.vault.report(ALL)
        check_report(self.vault, report)
        assert {row.name for row in report.by_repo} == self.held
        for row in report.by_repo:
            cost = self.vault.describe_repo(row.name).cost
            assert (cost.exclusive, cost.shared) == (row.exclusive, row.shared)
            assert (cost.logical, cost.unique) == (row.logical, row.unique)


class LongReportMachine(ReportMachine):
    """The same for longer."""


ReportMachine.TestCase.settings = brief(10)
LongReportMachine.TestCase.settings = at_length(200)
TestReports = ReportMachine.TestCase
TestReportsForLong = pytest.mark.slow(pytest.mark.timeout(3600)(LongReportMachine.TestCase))
