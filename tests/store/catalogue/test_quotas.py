"""What a namespace may have, and what is left of it: on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from blake3 import blake3

from weightvault.store.catalogue.access.limits import Limits
from weightvault.store.catalogue.access.quotas import (
    Usage,
    list_limits,
    put_limits,
    read_usage,
    sum_in_flight,
)
from weightvault.store.catalogue.access.received import note_received
from weightvault.store.catalogue.catalogue import Catalogue
from weightvault.store.catalogue.files.loose_files import LooseRow, NewLoose, add_loose
from weightvault.store.catalogue.tables.rows import CommitRow, FileRow
from weightvault.store.errors import QuotaExceeded
from weightvault.store.packs import PackEntry

RAW = 200


def digest(name: str) -> bytes:
    return blake3(name.encode()).digest()


@pytest.fixture
def catalogue(catalogue: Catalogue) -> Catalogue:
    """Ten chunks of RAW bytes each."""
    entries = [PackEntry(digest(f"{i}"), 8 + i * 50, 50, RAW, 3, 12) for i in range(10)]
    catalogue.add_pack("p", 1000, entries)
    return catalogue


class Committer:
    """Commits chunks, as files of one chunk each, by their numbers."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._numbers = count(1)

    def __call__(self, repo: str, *numbers: int, replayed: bool = False) -> None:
        made = next(self._numbers)
        key = f"journal/{made:05}"
        row = CommitRow(f"{made:040}", repo, "main", None, f"{made:064}", None, 1.0)
        chunks = [digest(f"{number}") for number in numbers]
        files = [FileRow(d.hex(), RAW, d, d, 0) for d in chunks]
        told = key if replayed else (lambda *_: [key])
        self._catalogue.add_commit(row, files, dict.fromkeys(chunks, 0), told)


@pytest.fixture
def commit(catalogue: Catalogue) -> Committer:
    return Committer(catalogue)


def test_each_thing_counts_once_for_a_namespace_whoever_has_it(
    catalogue: Catalogue, commit: Committer
):
    commit("me/a", 0, 1)
    commit("datasets/me/a", 1, 2)
    commit("you/a", 0, 1, 2, 3)
    commit("ME/a", 4)
    for quota in (False, True):
        if quota:
            put_limits(catalogue, "me", Limits(stored=10_000), "journal/quota")
        assert read_usage(catalogue, "me") == Usage(3 * RAW, 3 * RAW, 2)
        assert read_usage(catalogue, "you") == Usage(4 * RAW, 4 * RAW, 1)
    commit("me/b", 2, 3)
    assert read_usage(catalogue, "me") == Usage(4 * RAW, 4 * RAW, 3)
    catalogue.delete_repo("datasets/me/a", "journal/delete")
    assert read_usage(catalogue, "me") == Usage(4 * RAW, 4 * RAW, 2)
    commit("me/b", 2, 3, 5)
    assert read_usage(catalogue, "me") == Usage(5 * RAW, 5 * RAW, 2)
    assert read_usage(catalogue, "nobody") == Usage(0, 0, 0)


@pytest.mark.parametrize(
    "limits",
    [Limits(stored=2 * RAW), Limits(logical=2 * RAW), Limits(repos=1)],
    ids=["stored", "logical", "repos"],
)
def test_a_commit_that_takes_too_much_has_not_happened(
    catalogue: Catalogue, commit: Committer, limits: Limits
):
    put_limits(catalogue, "me", limits, "journal/quota")
    commit("me/a", 0)
    with pytest.raises(QuotaExceeded, match="me may have"):
        commit("me/b", 0, 1, 2)
    assert read_usage(catalogue, "me") == Usage(RAW, RAW, 1)
    assert not catalogue.has_repo("me/b")
    commit("you/b", 0, 1, 2)
    commit("me/a", 0, 1)
    # What is there already adds nothing.
    commit("me/a", 1)


def test_a_quota_below_what_is_there_stops_only_what_adds_to_it(
    catalogue: Catalogue, commit: Committer
):
    commit("me/a", 0, 1, 2)
    put_limits(catalogue, "me", Limits(stored=RAW), "journal/quota")
    commit("me/a", 1, 2)
    with pytest.raises(QuotaExceeded):
        commit("me/a", 3)
    commit("me/a", 4, replayed=True)
    assert read_usage(catalogue, "me").stored == 4 * RAW


def test_the_newest_entry_of_the_journal_counts(catalogue: Catalogue):
    put_limits(catalogue, "me", Limits(stored=1), "journal/2")
    put_limits(catalogue, "me", Limits(stored=2), "journal/1")
    assert list_limits(catalogue) == {"me": Limits(stored=1)}
    put_limits(catalogue, "me", Limits(), "journal/4")
    put_limits(catalogue, "me", Limits(stored=3), "journal/3")
    assert list_limits(catalogue) == {}


def test_what_is_on_its_way(catalogue: Catalogue, commit: Committer):
    note_received(catalogue, "me", [digest("0"), digest("1")], 1.0, 0.0)
    note_received(catalogue, "me+you", [digest("6")], 1.0, 0.0)
    note_received(catalogue, "you", [digest("2")], 1.0, 0.0)
    for repo, name, expires in (("me/a", "3", 9.0), ("me/a", "4", 2.0), ("ME/a", "5", 9.0)):
        chunk = digest(name)
        row = LooseRow(chunk, repo, chunk, chunk, RAW, name * 64, expires)
        add_loose(catalogue, [NewLoose(row, bytes(20), [chunk])], f"journal/loose-{name}")
    assert sum_in_flight(catalogue, "me", 5.0) == 4 * RAW
    commit("me/a", 3)
    assert sum_in_flight(catalogue, "me", 5.0) == 3 * RAW


def test_commits_at_once_do_not_take_more_than_is_left(catalogue: Catalogue, commit: Committer):
    """Each alone would fit, into repos that have nothing else in common."""
    put_limits(catalogue, "me", Limits(stored=5 * RAW), "journal/quota")
    commit("me/first", 0)
    outcomes = []

    def push(number: int) -> None:
        chunks = [2 * number, 2 * number + 1]
        try:
            commit(f"me/{number}", *chunks)
            outcomes.append("made")
        except QuotaExceeded:
            outcomes.append("refused")

    with ThreadPoolExecutor(4) as others:
        list(others.map(push, range(1, 5)))
    assert sorted(outcomes) == ["made"] * 2 + ["refused"] * 2
    assert read_usage(catalogue, "me") == Usage(5 * RAW, 5 * RAW, 3)
