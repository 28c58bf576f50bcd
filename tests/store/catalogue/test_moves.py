"""New frames for chunks that have some: put in use together, or not at all."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sketch_samples import add_commit, add_rows, flip_bits, make_entry, make_row

from weightvault.store.catalogue.catalogue import Catalogue
from weightvault.store.catalogue.dependencies import usable_among
from weightvault.store.catalogue.moved_frames import adopt_frames, replay_moves, standalone_among
from weightvault.store.catalogue.sketches.near import find_near
from weightvault.store.catalogue.tables.database import MakeEntry
from weightvault.store.catalogue.tables.rows import Location, SketchRow
from weightvault.store.catalogue.tombstones import remove_dead, set_tombstones
from weightvault.store.errors import NotFound

OLD = make_row("old centre")
NEW = flip_bits(OLD, 1, "new centre")
MEMBER = flip_bits(OLD, 2, "member")
FAMILY = [OLD, NEW, MEMBER]


@pytest.fixture
def catalogue(catalogue: Catalogue) -> Catalogue:
    """A family around OLD, and a pack with frames for it around NEW that nobody uses yet."""
    add_rows(catalogue, "first", [OLD])
    add_rows(catalogue, "second", [NEW, MEMBER], base=OLD.digest)
    frames = [
        make_entry(NEW, 8),
        make_entry(OLD, 108, NEW.digest),
        make_entry(MEMBER, 208, NEW.digest),
    ]
    catalogue.add_pack("anew", 1, frames)
    return catalogue


class Journal:
    """Stands for the journal: what was written."""

    def __init__(self) -> None:
        self.entries: list[list[bytes]] = []

    def entry_of(self, moved: list[bytes]) -> MakeEntry:
        def write(*_: object) -> list[str]:
            self.entries.append(moved)
            return [f"journal/{len(self.entries)}"]

        return write


def places(catalogue: Catalogue, rows: list[SketchRow] = FAMILY) -> list[Location]:
    found = catalogue.locate([row.digest for row in rows])
    return [found[row.digest] for row in rows]


def bases(catalogue: Catalogue) -> list[bytes | None]:
    return [place.base for place in places(catalogue)]


def searchable(catalogue: Catalogue) -> set[bytes]:
    return {bits for _, bits in find_near(catalogue, OLD)}


def test_frames_of_a_pack_wait_until_they_are_adopted(catalogue: Catalogue):
    assert bases(catalogue) == [None, OLD.digest, OLD.digest]
    assert searchable(catalogue) == {OLD.bits}


def test_a_family_moves_as_a_whole(catalogue: Catalogue):
    journal = Journal()
    moved = adopt_frames(catalogue, "anew", [places(catalogue)], journal.entry_of)
    assert set(moved) == {row.digest for row in FAMILY}
    assert journal.entries == [moved]
    assert bases(catalogue) == [NEW.digest, None, NEW.digest]
    assert {place.pack for place in places(catalogue)} == {"anew"}
    assert searchable(catalogue) == {NEW.bits}
    assert catalogue.unknown_entries(["journal/1"]) == []


def test_half_a_family_does_not_move(catalogue: Catalogue):
    """OLD cannot become a delta while MEMBER needs it."""
    journal = Journal()
    group = places(catalogue, [OLD, NEW])
    assert adopt_frames(catalogue, "anew", [group], journal.entry_of) == []
    assert journal.entries == []
    assert bases(catalogue) == [None, OLD.digest, OLD.digest]


def test_what_changed_since_it_was_planned_does_not_move(catalogue: Catalogue):
    journal = Journal()
    planned = places(catalogue)
    adopt_frames(catalogue, "anew", [planned], journal.entry_of)
    assert adopt_frames(catalogue, "anew", [planned], journal.entry_of) == []
    assert len(journal.entries) == 1


def test_a_delta_that_came_meanwhile_keeps_its_base(catalogue: Catalogue):
    planned = places(catalogue)
    add_rows(catalogue, "third", [flip_bits(OLD, 3, "late")], base=OLD.digest)
    assert adopt_frames(catalogue, "anew", [planned], Journal().entry_of) == []


def test_a_delta_that_comes_too_late_brings_its_base_back(catalogue: Catalogue):
    adopt_frames(catalogue, "anew", [places(catalogue)], Journal().entry_of)
    assert standalone_among(catalogue, [OLD.digest, MEMBER.digest]) == {OLD.digest}
    add_rows(catalogue, "third", [flip_bits(OLD, 3, "late")], base=OLD.digest)
    assert bases(catalogue) == [None, None, NEW.digest]
    assert searchable(catalogue) == {OLD.bits, NEW.bits}


def test_a_delta_on_what_a_collection_left_as_a_delta_is_sent_again(catalogue: Catalogue):
    """With the first pack goes the frame by which OLD stands alone; MEMBER is a delta on it."""
    remove_first(catalogue)
    with catalogue.reading() as connection:
        assert usable_among(connection, [row.digest for row in FAMILY]) == set()
    # NEW has a frame of its own, MEMBER one on NEW, and OLD too.
    add_commit(catalogue, "org/m", [row.digest for row in FAMILY])
    assert bases(catalogue) == [NEW.digest, None, NEW.digest]


def test_a_delta_that_cannot_be_read_is_not_committed(catalogue: Catalogue):
    late = flip_bits(OLD, 3, "late")
    add_rows(catalogue, "third", [late], base=OLD.digest)
    remove_first(catalogue)
    with pytest.raises(NotFound):
        add_commit(catalogue, "org/m", [late.digest])
    add_rows(catalogue, "fourth", [late])
    add_commit(catalogue, "org/m", [late.digest])
    assert catalogue.locate([late.digest])[late.digest].base is None


def remove_first(catalogue: Catalogue) -> None:
    """Collects the first pack, which nothing needs."""
    keys = ["packs/fi/first"]
    set_tombstones(catalogue, keys, 0, "journal/1")
    assert remove_dead(catalogue, keys, 0, lambda _: lambda *_: ["journal/2"]) == keys


def test_nothing_moves_when_the_entry_cannot_be_written(catalogue: Catalogue):
    def fail(*_: object) -> list[str]:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        adopt_frames(catalogue, "anew", [places(catalogue)], lambda _: fail)
    assert bases(catalogue) == [None, OLD.digest, OLD.digest]


def test_a_replay_does_the_same_and_once(catalogue: Catalogue):
    digests = [row.digest for row in FAMILY]
    for _ in range(2):
        replay_moves(catalogue, "anew", digests, "journal/1")
        assert bases(catalogue) == [NEW.digest, None, NEW.digest]
        assert {place.pack for place in places(catalogue)} == {"anew"}


def test_moves_beside_pushes_leave_deltas_one_deep(catalogue: Catalogue):
    """Half of the writers add deltas on OLD, which the others make a delta and back."""
    late = [flip_bits(OLD, 3, i) for i in range(30)]

    def push(i: int) -> None:
        add_rows(catalogue, f"late {i}", [late[i]], base=OLD.digest)

    def move(_: int) -> None:
        adopt_frames(catalogue, "anew", [places(catalogue)], Journal().entry_of)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: (push if i % 2 else move)(i // 2), range(60)))
    found = catalogue.locate([row.digest for row in [*FAMILY, *late]])
    needed = {place.base for place in found.values() if place.base is not None}
    assert all(found[base].base is None for base in needed)
