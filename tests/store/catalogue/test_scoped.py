"""What is told of repos to somebody who may not read all of them: on both databases."""

from __future__ import annotations

import pytest
from chunk_samples import digest, entry

from weightvault.store.catalogue.catalogue import Catalogue
from weightvault.store.catalogue.reports import lineage
from weightvault.store.catalogue.reports.pages import list_page
from weightvault.store.catalogue.reports.statistics import sum_repo
from weightvault.store.catalogue.tables.rows import CommitRow
from weightvault.store.catalogue.visibility import EVERYTHING, Scope

ME = Scope(("me",))
REPOS = {
    "you/first": ("shared", "theirs"),
    "me/one": ("shared", "mine"),
    "me/two": ("mine", "other"),
}


@pytest.fixture
def catalogue(catalogue: Catalogue) -> Catalogue:
    """Repos of two namespaces; one chunk is in both, one is a delta on a chunk of the other."""
    names = sorted({name for held in REPOS.values() for name in held})
    deltas = {"other": "theirs"}
    frames = [entry(n, deltas.get(n), 8 + 100 * i) for i, n in enumerate(names)]
    catalogue.add_pack("p", 1000, frames)
    for number, (repo, held) in enumerate(REPOS.items()):
        declared = "you/first" if repo == "me/one" else "me/one"
        row = CommitRow(f"{number}" * 40, repo, "main", None, f"{number}" * 64, declared, 1.0)
        uses = {digest(name): 1 for name in held}
        catalogue.add_commit(row, [], uses, f"journal/{number}")
    return catalogue


def raw(name: str) -> int:
    return entry(name).raw_bytes


def test_costs_are_raw_bytes_within_the_scope(catalogue: Catalogue):
    found = sum_repo(catalogue, "me/one", ME)
    assert (found.exclusive, found.shared) == (raw("shared"), raw("mine"))
    everything = sum_repo(catalogue, "me/one", EVERYTHING)
    assert everything.unique == found.unique
    assert (everything.exclusive, everything.shared) != (found.exclusive, found.shared)


def test_costs_do_not_change_with_what_others_have(catalogue: Catalogue):
    before = [sum_repo(catalogue, repo, ME) for repo in ("me/one", "me/two")]
    catalogue.delete_repo("you/first", "journal/delete")
    assert [sum_repo(catalogue, repo, ME) for repo in ("me/one", "me/two")] == before


def test_pages_go_on_from_a_commit_that_the_reader_knows(catalogue: Catalogue):
    page = list_page(catalogue, order="updated", limit=1, seen=ME)
    assert [(line.name, line.frame_bytes) for line in page] == [("me/two", None)]
    after = page[0].cursor
    assert after == f"me/two@{'2' * 40}"
    rest = list_page(catalogue, order="updated", cursor=after, limit=9, seen=ME)
    assert [line.name for line in rest] == ["me/one"]
    back = list_page(
        catalogue, order="updated", cursor=rest[0].cursor, backwards=True, limit=9, seen=ME
    )
    assert [line.name for line in back] == ["me/two"]


@pytest.mark.parametrize("cursor", ["1", "you/first@" + "0" * 40, "me/one@" + "9" * 40, "@", ""])
def test_no_page_goes_on_from_elsewhere(catalogue: Catalogue, cursor: str):
    with pytest.raises(ValueError, match="no place"):
        list_page(catalogue, order="updated", cursor=cursor, limit=9, seen=ME)


def test_lineage_is_of_repos_within_the_scope(catalogue: Catalogue):
    mine = digest("mine")
    assert lineage.first_repos(catalogue, [mine, digest("shared")], ME) == {
        mine: "me/one",
        digest("shared"): "me/one",
    }
    assert {user.repo for user in lineage.users_of(catalogue, [digest("theirs")], ME)} == set()
    assert {user.repo for user in lineage.users_of(catalogue, [mine], ME)} == {"me/one", "me/two"}
    assert lineage.declared_base(catalogue, "me/one", ME) is None
    assert lineage.declared_base(catalogue, "me/one", EVERYTHING) == "you/first"
    assert lineage.declared_base(catalogue, "me/two", ME) == "me/one"
    assert lineage.declaring(catalogue, "me/one", ME) == ["me/two"]
    assert lineage.declaring(catalogue, "you/first", ME) == ["me/one"]
