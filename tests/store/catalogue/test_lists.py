"""What lists of repos go by is kept with every change of a branch."""

import pytest
from sqlalchemy import select, update

from weightvault.store.catalogue.access.retention import forget_commits
from weightvault.store.catalogue.catalogue import Catalogue
from weightvault.store.catalogue.refs import change_ref
from weightvault.store.catalogue.repo_facts import (
    RepoFacts,
    describe_repo,
    facts_of,
    list_undescribed,
)
from weightvault.store.catalogue.repo_list import (
    Facts,
    Wanted,
    find_repos,
    list_misplaced,
    list_rows,
)
from weightvault.store.catalogue.tables.rows import CommitRow
from weightvault.store.catalogue.tables.schema import repos
from weightvault.store.catalogue.visibility import Scope


def commit(catalogue: Catalogue, repo: str, number: int, branch: str = "main") -> str:
    oid = f"{number:040x}"
    row = CommitRow(oid, repo, branch, None, "m" * 64, None, float(number))
    catalogue.add_commit(row, [], {}, f"journal/{number:016x}-{repo}")
    return oid


def newest(catalogue: Catalogue) -> list[str]:
    with catalogue.reading() as connection:
        return [row.name for row in find_repos(connection, Wanted(), "updated", 9, descending=True)]


@pytest.fixture
def filled(catalogue: Catalogue) -> Catalogue:
    for number, repo in enumerate(("b/x", "a/x", "datasets/a/d", "a/y"), 1):
        commit(catalogue, repo, number)
    return catalogue


def test_repos_are_listed_by_name_and_by_their_newest_commit(filled: Catalogue):
    assert [row.name for row in list_rows(filled, Wanted(), 9)] == [
        *("a/x", "a/y", "b/x", "datasets/a/d")
    ]
    assert newest(filled) == ["a/y", "datasets/a/d", "a/x", "b/x"]
    commit(filled, "b/x", 9, "other")
    assert newest(filled)[0] == "b/x"
    assert list_misplaced(filled) == []


def test_a_branch_that_goes_takes_its_repo_back_in_the_order(filled: Catalogue):
    commit(filled, "b/x", 9, "other")
    change_ref(filled, "b/x", "branch", "other", None, None, "journal/b")
    assert newest(filled)[-1] == "b/x"
    change_ref(filled, "b/x", "branch", "other", f"{9:040x}", None, "journal/c")
    assert newest(filled)[0] == "b/x"
    assert list_misplaced(filled) == []


def test_what_is_forgotten_or_deleted_places_no_repo(filled: Catalogue):
    forget_commits(filled, "a/y", {f"{4:040x}": None}, "journal/d")
    assert newest(filled) == ["datasets/a/d", "a/x", "b/x"]
    commit(filled, "b/x", 9)
    filled.delete_repo("b/x", "journal/e", keep=[f"{1:040x}"])
    filled.delete_repo("a/x", "journal/f")
    assert newest(filled) == ["datasets/a/d"]
    assert list_misplaced(filled) == []


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Wanted(kind="datasets"), ["datasets/a/d"]),
        (Wanted(namespace="a"), ["a/x", "a/y", "datasets/a/d"]),
        (Wanted(kind="models", words=("X",)), ["a/x", "b/x"]),
        # What names the kind is no part of what is searched.
        (Wanted(kind="datasets", words=("datasets",)), []),
        (Wanted(Scope(("b",))), ["b/x"]),
        (Wanted(Scope(("b", "a")), kind="models"), ["a/x", "a/y", "b/x"]),
        (Wanted(Scope()), []),
        (Wanted(Scope(public=True)), ["a/y"]),
        (Wanted(Scope(("a",), public=True), kind="models"), ["a/x", "a/y"]),
    ],
)
def test_lists_are_of_what_is_wanted(filled: Catalogue, wanted: Wanted, names: list[str]):
    with filled.writing() as connection:
        connection.execute(update(repos).where(repos.c.name == "a/y").values(public=True))
    found: list[str] = []
    while page := list_rows(filled, wanted, 2, found[-1] if found else None):
        found += [row.name for row in page]
    assert found == names


def test_a_recount_names_what_lists_go_wrong_by(filled: Catalogue):
    with filled.writing() as connection:
        one = select(repos.c.newest).where(repos.c.name == "a/y").scalar_subquery()
        connection.execute(update(repos).where(repos.c.name == "b/x").values(newest=one))
        connection.execute(update(repos).where(repos.c.name == "a/x").values(namespace="b"))
    assert list_misplaced(filled) == ["b/x", "a/x"]


def named(catalogue: Catalogue, **facts) -> list[str]:
    return [row.name for row in list_rows(catalogue, Wanted(facts=Facts(**facts)), 9)]


def test_what_was_read_of_a_repo_is_kept_until_its_branches_change(filled: Catalogue):
    waiting = list_undescribed(filled, Wanted(kind="models"), 9)
    assert [each.name for each in waiting] == ["b/x", "a/x", "a/y"]
    for number, each in enumerate(waiting):
        labels = ("z", "a", "z", "", "long" * 99, "nul\0", *([each.name] * number))
        describe_repo(filled, each, RepoFacts(labels, "task", "library", number))
    assert list_undescribed(filled, Wanted(kind="models"), 9) == []
    known = facts_of(filled, ["a/x", "datasets/a/d"])
    assert known == {"a/x": RepoFacts(("z", "a", "a/x"), "task", "library", 1, 2.0)}
    assert named(filled, labels=("z", "a/x")) == ["a/x"]
    assert named(filled, pipeline_tag="task", least=1) == ["a/x", "a/y"]
    assert named(filled, most=0) == ["b/x"]
    commit(filled, "a/x", 9)
    assert [each.name for each in list_undescribed(filled, Wanted(kind="models"), 9)] == ["a/x"]


def test_what_was_read_of_an_older_state_is_not_kept(filled: Catalogue):
    (old, *_) = list_undescribed(filled, Wanted(namespace="b"), 9)
    commit(filled, "b/x", 9)
    describe_repo(filled, old, RepoFacts(("old",)))
    assert named(filled, labels=("old",)) == []
    (new,) = list_undescribed(filled, Wanted(namespace="b"), 9)
    describe_repo(filled, new, RepoFacts(("new",)))
    assert named(filled, labels=("new",)) == ["b/x"]
    filled.delete_repo("b/x", "journal/z")
    assert named(filled, labels=("new",)) == []
