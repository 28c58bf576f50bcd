"""What needs what, against a model that follows the edges of small random stores by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest
from chunk_samples import digest
from sqlalchemy import select

from weightvault.store.catalogue.catalogue import Catalogue
from weightvault.store.catalogue.damage import copies_of, needing, record_scrub
from weightvault.store.catalogue.dependencies import is_live, stranded_among, usable_among
from weightvault.store.catalogue.edges import count_dependents, inputs_closure, much_needed
from weightvault.store.catalogue.moved_frames import adopt_frames, lowest_levels
from weightvault.store.catalogue.reports.bulk import read_ledger
from weightvault.store.catalogue.reports.families import read_shared
from weightvault.store.catalogue.reports.lineage import centres_of
from weightvault.store.catalogue.reports.pages import base_bytes
from weightvault.store.catalogue.reports.statistics import sum_repo
from weightvault.store.catalogue.tables.rows import CommitRow, FileRow, SketchRow
from weightvault.store.catalogue.tables.schema import chunks
from weightvault.store.catalogue.tombstones import (
    pack_uses,
    packs_holding,
    remove_dead,
    set_tombstones,
)
from weightvault.store.catalogue.visibility import EVERYTHING
from weightvault.store.errors import NotFound
from weightvault.store.object_keys import pack_key
from weightvault.store.packs import DERIVED, MAX_CHAIN, PackEntry

LATEST = 40
LEVELS = (0, 1, 2, 3, MAX_CHAIN, DERIVED, DERIVED)


@dataclass
class Model:
    """A store as lists: the frames in use, the chunks of each commit, what is damaged."""

    random: Random
    frames: dict[bytes, PackEntry] = field(default_factory=dict)
    pack_of: dict[bytes, str] = field(default_factory=dict)
    commits: dict[str, set[bytes]] = field(default_factory=dict)
    damaged: set[bytes] = field(default_factory=set)

    def needs(self, one: bytes) -> set[bytes]:
        """All that a chunk needs."""
        inputs = self.frames[one].inputs if one in self.frames else ()
        return set(inputs).union(*map(self.needs, inputs))

    def with_needs(self, some: set[bytes]) -> set[bytes]:
        return some.union(*map(self.needs, some))

    @property
    def live(self) -> set[bytes]:
        return self.with_needs(set().union(*self.commits.values()))

    def usable(self, one: bytes) -> bool:
        if one not in self.frames or one in self.damaged:
            return False
        frame = self.frames[one]
        levels = [self.frames[d].level for d in frame.inputs if d in self.frames]
        fits = len(levels) == len(frame.inputs) and all(n < frame.level for n in levels)
        return fits and all(map(self.usable, frame.inputs))

    def draw_entry(self, name: bytes, offset: int, level: int) -> PackEntry:
        """A frame of the level or, where there is nothing to need, of a lower one."""
        below = sorted(d for d, f in self.frames.items() if f.level < level and d != name)
        if level == 0 or not below:
            return PackEntry(name, offset, self.random.randint(5, 99), 100, 3, 12)
        facts = (name, offset, self.random.randint(5, 99), 100, 3, 12)
        if level < DERIVED:
            highest = max(self.frames[d].level for d in below)
            base = self.random.choice([d for d in below if self.frames[d].level == highest])
            return PackEntry(*facts, (base,), depth=level)
        inputs = tuple(self.random.choices(below, k=self.random.randint(1, 4)))
        return PackEntry(*facts, inputs, derived=True)


def add_pack(catalogue: Catalogue, model: Model, pack: str, entries: list[PackEntry]) -> None:
    catalogue.add_pack(pack, 1000, entries)
    for entry in entries:
        if entry.digest not in model.frames:
            model.frames[entry.digest] = entry
            model.pack_of[entry.digest] = pack


def grow(catalogue: Catalogue, model: Model, number: int) -> None:
    """A pack of new chunks, of which each may need what was there before."""
    level = model.random.choice(LEVELS)
    names = [digest(f"{number} {i}") for i in range(model.random.randint(1, 4))]
    entries = [model.draw_entry(name, 8 + 100 * i, level) for i, name in enumerate(names)]
    add_pack(catalogue, model, name_of(number), entries)


def name_of(number: int) -> str:
    return f"{number:064x}"


def commit(catalogue: Catalogue, model: Model, repo: str) -> None:
    known = sorted(model.frames)
    used = set(model.random.sample(known, min(len(known), model.random.randint(1, 4))))
    row = CommitRow(digest(repo).hex()[:40], repo, "main", None, "0" * 64, None, 1.0)
    entry = FileRow("f", 1, digest(repo), digest(repo), 1)
    arguments = (row, [entry], dict.fromkeys(used, 0), f"journal/{repo}")
    sound = all(map(can_be_read, [model] * len(used), used))
    if sound:
        catalogue.add_commit(*arguments)
        model.commits[repo] = used
    else:
        with pytest.raises(NotFound):
            catalogue.add_commit(*arguments)


def can_be_read(model: Model, one: bytes) -> bool:
    whole = Model(model.random, model.frames, model.pack_of)
    return whole.usable(one)


def make_store(catalogue: Catalogue, seed: int) -> Model:
    """A store of random packs and commits, of which some were deleted again."""
    model = Model(Random(seed))
    for number in range(LATEST):
        grow(catalogue, model, number)
        repo = f"org/{number}"
        if model.random.random() < 0.3:
            commit(catalogue, model, repo)
        if model.commits and model.random.random() < 0.1:
            gone = model.random.choice(sorted(model.commits))
            catalogue.delete_repo(gone, f"journal/{gone} gone")
            del model.commits[gone]
    return model


@pytest.fixture(params=range(2))
def model(catalogue: Catalogue, request: pytest.FixtureRequest) -> Model:
    return make_store(catalogue, request.param)


def read_live(catalogue: Catalogue) -> set[bytes]:
    with catalogue.reading() as connection:
        return set(connection.scalars(select(chunks.c.digest).where(is_live())))


def test_liveness_follows_edges_to_their_end(catalogue: Catalogue, model: Model):
    assert read_live(catalogue) == model.live
    assert max(model.frames[d].level for d in model.live) == DERIVED
    for use in pack_uses(catalogue):
        mine = [d for d, pack in model.pack_of.items() if pack == use.name and d in model.live]
        assert use.live_bytes == sum(model.frames[d].frame_bytes for d in mine)


def test_what_chunks_need_and_what_needs_them(catalogue: Catalogue, model: Model):
    every = sorted(model.frames)
    with catalogue.reading() as connection:
        for one in every:
            assert inputs_closure(connection, [one]) == model.needs(one)
        direct = {d: sum(d in f.inputs for f in model.frames.values()) for d in every}
        inputs = [d for f in model.frames.values() for d in f.inputs]
        assert sum(count_dependents(connection, every).values()) == len(inputs)
        needed = {d: sum(d in model.needs(o) for o in every) for d in every}
        for least in (1, 2, 5):
            found = set(connection.scalars(much_needed(least)))
            assert found == {d for d, count in needed.items() if count >= least}
    assert any(needed[d] > direct[d] > 0 for d in every)
    dependents = {d: {o for o in every if d in model.needs(o)} | {d} for d in every}
    assert needing(catalogue, every) == dependents


def test_what_a_commit_gives_access_to(catalogue: Catalogue, model: Model):
    every = sorted(model.frames)
    for repo, used in model.commits.items():
        oid = digest(repo).hex()[:40]
        needed = model.with_needs(used)
        assert catalogue.chunks_of(repo, oid, every) == needed
        assert packs_holding(catalogue, used) == {model.pack_of[d] for d in needed}
        beside = sum(model.frames[d].frame_bytes for d in needed - used)
        assert base_bytes(catalogue, repo, oid) == beside
    for pack in set(model.pack_of.values()):
        repos = {r for r, u in model.commits.items() if held(model, pack) & model.with_needs(u)}
        assert catalogue.repos_needing(pack) == sorted(repos)


def held(model: Model, pack: str) -> set[bytes]:
    return {d for d, name in model.pack_of.items() if name == pack}


def test_reports_follow_edges_to_their_end(catalogue: Catalogue, model: Model):
    with catalogue.reading() as connection:
        ledger = read_ledger(connection)
        rows = connection.execute(select(chunks.c.id, chunks.c.digest)).all()
    ids = {row.id: row.digest for row in rows}
    digests = [ids[i] for i in ledger.chunks.id.tolist()]
    needs = ledger.chunks.needs
    for i, one in enumerate(digests):
        mine = needs.input[needs.start[i] : needs.start[i + 1]].tolist()
        assert {digests[j] for j in mine} == model.needs(one)
        assert len(mine) == len(model.needs(one))
    others = {repo: model.with_needs(used) for repo, used in model.commits.items()}
    for repo in model.commits:
        mine = others[repo]
        theirs = set().union(*(needed for name, needed in others.items() if name != repo))
        sums = sum_repo(catalogue, repo)
        assert sums.exclusive == sum(model.frames[d].frame_bytes for d in mine - theirs)
        assert sums.shared == sum(model.frames[d].frame_bytes for d in mine & theirs)


def test_damage_reaches_all_that_need_it(catalogue: Catalogue, model: Model):
    model.damaged = set(model.random.sample(sorted(model.frames), 6))
    ids = {use.name: use.id for use in pack_uses(catalogue)}
    for pack in {model.pack_of[d] for d in model.damaged}:
        mine = held(model, pack) & model.damaged
        found = [(model.frames[d].offset, d, "flipped") for d in sorted(mine)]
        record_scrub(catalogue, ids[pack], found, None)
    with catalogue.reading() as connection:
        usable = usable_among(connection, list(model.frames))
        assert stranded_among(connection, list(model.frames)) == set()
    assert usable == {d for d in model.frames if model.usable(d)}
    assert len(model.frames) - len(usable) > len(model.damaged)


def test_a_collection_takes_just_what_is_dead(catalogue: Catalogue, model: Model):
    keys = [pack_key(pack) for pack in sorted(set(model.pack_of.values()))]
    set_tombstones(catalogue, keys, 1.0, "journal/retire")
    removed = remove_dead(catalogue, keys, 2.0, lambda _: lambda *_: ["journal/remove"])
    dead = {pack for pack in set(model.pack_of.values()) if not held(model, pack) & model.live}
    assert set(removed) == {pack_key(pack) for pack in dead}
    for one in [d for d, pack in model.pack_of.items() if pack in dead]:
        del model.frames[one], model.pack_of[one]
    assert catalogue.known(list(model.frames)).keys() == model.frames.keys()
    assert read_live(catalogue) == model.live
    with catalogue.reading() as connection:
        assert usable_among(connection, list(model.frames)) == set(
            filter(model.usable, model.frames)
        )
        assert stranded_among(connection, list(model.live)) == set()


@pytest.mark.parametrize("seed", range(2))
def test_levels_fit_whatever_moves(catalogue: Catalogue, seed: int):
    """New frames of any level for any chunks: what is adopted, and what arrives on it, leaves each
    input below what needs it."""
    model = Model(Random(seed))
    levels: set[int] = set()
    for number in range(LATEST):
        grow(catalogue, model, number)
        if number % 3:
            continue
        one = model.random.choice(sorted(model.frames))
        again = model.draw_entry(one, 8, model.random.choice(LEVELS))
        pack = name_of(1000 + number)
        catalogue.add_pack(pack, 1000, [again])
        group = [catalogue.locate([one])[one]]
        moved = adopt_frames(
            catalogue, pack, [group], lambda _, n=number: lambda *_: [f"journal/{n}"]
        )
        allowed = all(f.level > again.level for f in model.frames.values() if one in f.inputs)
        assert bool(moved) == allowed
        if moved:
            model.frames[one], model.pack_of[one] = again, pack
        places = catalogue.locate(list(model.frames)).values()
        levels = {place.level for place in places}
        assert {p.digest: p.inputs for p in places} == {
            d: f.inputs for d, f in model.frames.items()
        }
        with catalogue.reading() as connection:
            assert stranded_among(connection, list(model.frames)) == set()
            assert inputs_closure(connection, [one]) == model.needs(one)
    assert levels == set(LEVELS)


def test_what_arrives_on_a_derived_chunk_brings_lower_frames_back(catalogue: Catalogue):
    """C was a delta on B, and B standalone; both moved up. A derived frame on C brings C back as a
    delta, and so B as a standalone one."""
    a, b, c, d = (digest(name) for name in "abcd")
    facts = (100, 3, 12)
    catalogue.add_pack(name_of(1), 1, [PackEntry(a, 8, 50, *facts), PackEntry(b, 58, 50, *facts)])
    catalogue.add_pack(name_of(2), 1, [PackEntry(c, 8, 20, *facts, (b,))])
    catalogue.add_pack(name_of(3), 1, [PackEntry(c, 8, 5, *facts, (a, a), derived=True)])
    catalogue.add_pack(name_of(4), 1, [PackEntry(b, 8, 5, *facts, (a,))])
    for number, moving in ((3, c), (4, b)):
        place = catalogue.locate([moving])[moving]
        assert adopt_frames(
            catalogue, name_of(number), [[place]], lambda _, n=number: lambda *_: [f"journal/{n}"]
        )
    assert {d: p.level for d, p in catalogue.locate([a, b, c]).items()} == {a: 0, b: 1, c: DERIVED}
    assert lowest_levels(catalogue, [a, b, c]) == {a: 0, b: 0, c: 1}
    catalogue.add_pack(name_of(5), 1, [PackEntry(d, 8, 5, *facts, (c, b), derived=True)])
    levels = {d: p.level for d, p in catalogue.locate([a, b, c, d]).items()}
    assert levels == {a: 0, b: 0, c: 1, d: DERIVED}
    assert [copy.level for copy in copies_of(catalogue, c)] == [DERIVED]
    with catalogue.reading() as connection:
        assert usable_among(connection, [a, b, c, d]) == {a, b, c, d}


def test_a_chunk_rests_on_the_standalone_one_under_its_first_input(catalogue: Catalogue):
    names = {n: digest(n) for n in ("base", "delta", "second", "over delta", "over base")}
    base, delta, second, over_delta, over_base = names.values()
    facts = (100, 3, 12)
    entries = [
        PackEntry(base, 8, 50, *facts),
        PackEntry(delta, 58, 50, *facts, (base,)),
        PackEntry(second, 108, 50, *facts, (delta,), depth=2),
        PackEntry(over_delta, 158, 50, *facts, (second, base), derived=True),
        PackEntry(over_base, 208, 50, *facts, (base, delta), derived=True),
    ]
    rows = [SketchRow(d, 17, 12, 100, bytes(range(32)), b"") for d in names.values()]
    catalogue.add_pack(name_of(1), 1, entries, rows)
    oid = "1" * 40
    row = CommitRow(oid, "org/m", "main", None, "0" * 64, None, 1.0)
    uses = dict.fromkeys(names.values(), 0)
    catalogue.add_commit(row, [FileRow("f", 1, base, base, 1)], uses, "journal/1")
    assert {row.root for row in read_shared(catalogue)} == {base}
    sources = {row.digest: row.source for row in read_shared(catalogue) if row.source}
    assert sources == {over_delta: second, over_base: base}
    centres = sorted(line.centre for line in centres_of(catalogue, "org/m", EVERYTHING))
    assert centres == sorted([base, base, base, second, base])
