"""Pages of lists out of the catalogue: each row once, in order, whatever the page size."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from chunk_samples import digest

from weightvault.store.catalogue.catalogue import Catalogue, open_catalogue
from weightvault.store.catalogue.reports.pages import (
    RepoLine,
    base_bytes,
    codecs_of,
    count_repos,
    frames_of,
    list_history,
    list_page,
)
from weightvault.store.catalogue.tables.rows import CommitRow, FileRow
from weightvault.store.packs import PackEntry

NAMES = [f"org-{i % 3}/m{i:02d}" for i in range(25)]
CHAIN = [f"{number:040x}" for number in range(200, 210)]


def commit(
    catalogue: Catalogue,
    repo: str,
    oid: str,
    *names: object,
    branch: str = "main",
    parent: str | None = None,
) -> None:
    row = CommitRow(oid, repo, branch, parent, digest(oid).hex(), None, float(int(oid, 16)))
    entry = FileRow("f", 1000, digest("file", oid), digest("recipe", oid), 1)
    uses = {digest(name): 0 for name in names}
    catalogue.add_commit(row, [entry], uses, f"journal/{repo}{oid}")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def catalogue(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Catalogue]:
    """One with a repo of ten commits, then 25 of one each, in the order of their numbers, of which
    m07 has two branches."""
    if request.param == "sqlite":
        made = open_catalogue(f"sqlite:///{tmp_path_factory.mktemp('browse') / 'c.sqlite'}")
    else:
        made = open_catalogue(request.getfixturevalue("postgres_server").new_url())
    base = PackEntry(digest("base"), 8, 70, 100, 3, 12)
    delta = PackEntry(digest("delta"), 78, 10, 100, 4, 12, (digest("base"),))
    made.add_pack("p1", 1000, [base, delta])
    for parent, oid in zip([None, *CHAIN], CHAIN, strict=False):
        commit(made, "a/chain", oid, "base", parent=parent)
    for number, name in enumerate(NAMES):
        commit(made, name, f"{number:040x}", "delta" if number else "base")
    commit(made, NAMES[7], f"{99:040x}", "base", "delta", branch="dev")
    yield made
    made.close()


def walk(catalogue: Catalogue, order, limit: int, search: str = "") -> list[list[RepoLine]]:
    """All pages, forwards."""
    pages, cursor = [], None
    while True:
        page = list_page(catalogue, order=order, search=search, cursor=cursor, limit=limit)
        if not page:
            return pages
        pages.append(page)
        cursor = page[-1].cursor


def names(page: list[RepoLine]) -> list[str]:
    return [line.name for line in page]


@pytest.mark.parametrize("limit", [1, 7, 25, 100])
def test_pages_hold_every_repo_once_and_in_order(catalogue: Catalogue, limit: int):
    by_name = [name for page in walk(catalogue, "name", limit) for name in names(page)]
    assert by_name == ["a/chain", *sorted(NAMES)]
    by_update = [name for page in walk(catalogue, "updated", limit) for name in names(page)]
    others = [name for name in reversed(NAMES) if name != NAMES[7]]
    assert by_update == [NAMES[7], *others, "a/chain"]


@pytest.mark.parametrize("order", ["name", "updated"])
def test_pages_are_the_same_on_the_way_back(catalogue: Catalogue, order):
    pages = walk(catalogue, order, 7)
    for page, following in pairwise(pages):
        cursor = following[0].cursor
        back = list_page(catalogue, order=order, cursor=cursor, backwards=True, limit=7)
        assert back == page


def test_search_takes_its_characters_as_they_are(catalogue: Catalogue):
    assert count_repos(catalogue) == len(NAMES) + 1
    for search, found in (("M0", 10), ("org-1/", 8), ("%", 0), ("_", 0), ("\\", 0), ("'", 0)):
        assert count_repos(catalogue, search) == found
        pages = walk(catalogue, "updated", 4, search)
        assert sum(len(page) for page in pages) == found


def test_a_line_says_what_the_newest_commit_takes(catalogue: Catalogue):
    (line,) = list_page(catalogue, order="name", search="m07", limit=5)
    assert (line.branches, line.files, line.bytes, line.frame_bytes) == (2, 1, 1000, 80)
    assert line.updated == 99
    (line,) = list_page(catalogue, order="updated", search="m08", limit=5)
    assert (line.branches, line.files, line.bytes, line.frame_bytes) == (1, 1, 1000, 10)


def test_a_cursor_of_another_order_is_refused(catalogue: Catalogue):
    with pytest.raises(ValueError, match="org"):
        list_page(catalogue, order="updated", cursor="org/m", limit=5)


def test_history_follows_parents(catalogue: Catalogue):
    found = list_history(catalogue, "a/chain", CHAIN[7], 5)
    assert [row.oid for row in found] == CHAIN[7:2:-1]
    assert len(list_history(catalogue, "a/chain", CHAIN[7], 100)) == 8
    assert list_history(catalogue, "org/none", CHAIN[7], 100) == []


def test_frames_codecs_and_bases_of_a_commit(catalogue: Catalogue):
    frames = frames_of(catalogue, [digest("delta"), digest("unknown")])
    assert frames.keys() == {digest("delta")}
    assert frames[digest("delta")].inputs == (digest("base"),)
    (codec,) = codecs_of(catalogue, NAMES[8], f"{8:040x}")
    assert (codec.codec, codec.chunks, codec.raw_bytes, codec.frame_bytes) == (4, 1, 100, 10)
    assert base_bytes(catalogue, NAMES[8], f"{8:040x}") == 70
    # The second branch of this one holds the base itself.
    assert base_bytes(catalogue, NAMES[7], f"{99:040x}") == 0
