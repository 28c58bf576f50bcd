"""Which chunks somebody may name who may not read every repo."""

import pytest
from blake3 import blake3

from weightvault.store.catalogue.access.received import (
    note_received,
    readable_through,
    received_among,
    strike_received,
)
from weightvault.store.catalogue.catalogue import Catalogue
from weightvault.store.catalogue.refs import set_public
from weightvault.store.catalogue.tables.rows import CommitRow
from weightvault.store.catalogue.visibility import EVERYTHING, Scope
from weightvault.store.packs import PackEntry

NAMES = ("mine", "data", "theirs", "open", "MINE", "none")
CHUNKS = {name: blake3(name.encode()).digest() for name in NAMES}
REPOS = {
    "mine": "me/model",
    "data": "datasets/me/model",
    "theirs": "you/model",
    "open": "you/open",
    "MINE": "ME/model",
}


@pytest.fixture
def catalogue(catalogue: Catalogue) -> Catalogue:
    """A chunk for each of REPOS, in a commit of that repo, and one that no commit has."""
    entries = [PackEntry(d, 8 + i * 100, 100, 200, 3, 12) for i, d in enumerate(CHUNKS.values())]
    catalogue.add_pack("p", 1000, entries)
    for number, (name, repo) in enumerate(REPOS.items()):
        row = CommitRow(f"{number}" * 40, repo, "main", None, f"{number}" * 64, None, 1.0)
        catalogue.add_commit(row, [], {CHUNKS[name]: 0}, f"journal/{number}")
    set_public(catalogue, REPOS["open"], True, "journal/public")
    return catalogue


def named(found: dict[bytes, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    return {name: found[digest] for name, digest in CHUNKS.items() if digest in found}


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope(("me",)), {"mine", "data"}),
        (Scope(("me", "ME")), {"mine", "data", "MINE"}),
        (Scope(("me",), public=True), {"mine", "data", "open"}),
        (Scope(("m_", "%")), set()),
        (Scope(public=True), {"open"}),
        (Scope(), set()),
        (EVERYTHING, set(REPOS)),
    ],
)
def test_chunks_are_read_through_repos_of_the_scope(
    catalogue: Catalogue, scope: Scope, expected: set[str]
):
    found = named(readable_through(catalogue, list(CHUNKS.values()), scope))
    assert expected == {n for n, r in REPOS.items() if scope.includes(r, n == "open")}
    oids = {repo: f"{number}" * 40 for number, repo in enumerate(REPOS.values())}
    assert found == {name: (REPOS[name], oids[REPOS[name]]) for name in expected}


def test_what_was_received_is_on_record_until_it_is_struck_off(catalogue: Catalogue):
    chunk, others = CHUNKS["theirs"], CHUNKS["none"]
    note_received(catalogue, "me", [chunk, others, b"?" * 32], 10.0, 0.0)
    note_received(catalogue, "me", [chunk], 11.0, 0.0)
    digests = list(CHUNKS.values())
    assert received_among(catalogue, "me", digests, 0.0) == {chunk, others}
    assert received_among(catalogue, "ME", digests, 0.0) == set()
    strike_received(catalogue, "you", digests)
    strike_received(catalogue, "me", [others])
    assert received_among(catalogue, "me", digests, 0.0) == {chunk}
    note_received(catalogue, "you", [], 30.0, 20.0)
    assert received_among(catalogue, "me", digests, 0.0) == set()
