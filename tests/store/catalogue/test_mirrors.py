"""What the catalogue knows of repos that are copies of another hub's."""

from __future__ import annotations

from dataclasses import replace

from weightvault.store.catalogue.catalogue import Catalogue
from weightvault.store.catalogue.files.mirrors import (
    AnswerRow,
    FetchedRow,
    MirrorRow,
    add_fetched,
    fetched_files,
    find_answer,
    find_mirror,
    forget_mirror,
    guarded_repos,
    list_mirrors,
    mirrored_from,
    put_answer,
    put_mirror,
    touch_mirror,
)

ROW = MirrorRow("org/model", "https://hub.example", True, 5.0, 5.0)


def test_a_mirrored_repo_is_known_until_it_is_forgotten(catalogue: Catalogue):
    assert find_mirror(catalogue, ROW.repo) is None
    for row in (ROW, replace(ROW, repo="org/other", guarded=False, used=9.0), ROW):
        put_mirror(catalogue, row)
    assert find_mirror(catalogue, ROW.repo) == ROW
    assert guarded_repos(catalogue) == {"org/model"}
    names = ("org/model", "org/other")
    assert mirrored_from(catalogue, [*names, "org/mine"]) == dict.fromkeys(names, ROW.upstream)
    for etag, size in (("a" * 64, 3), ("b" * 40, 4), ("b" * 40, 4)):
        add_fetched(catalogue, FetchedRow(ROW.repo, etag, bytes(32), size))
    assert set(fetched_files(catalogue, ROW.repo)) == {"a" * 64, "b" * 40}
    assert set(fetched_files(catalogue, ROW.repo, "b" * 40)) == {"b" * 40}
    told = [(each.row.repo, each.files, each.bytes) for each in list_mirrors(catalogue)]
    assert told == [("org/model", 2, 7), ("org/other", 0, 0)]
    touch_mirror(catalogue, ROW.repo, 10.0)
    assert [each.row.repo for each in list_mirrors(catalogue)] == ["org/other", "org/model"]
    forget_mirror(catalogue, ROW.repo)
    assert find_mirror(catalogue, ROW.repo) is None
    assert not fetched_files(catalogue, ROW.repo)


def test_of_many_answers_the_newest_are_kept(catalogue: Catalogue):
    put_mirror(catalogue, ROW)
    for number in range(6):
        name = f"revision {number}"
        put_answer(catalogue, AnswerRow(ROW.repo, name, None, float(number), "{}"), 4)
    known = [find_answer(catalogue, ROW.repo, f"revision {number}") for number in range(6)]
    assert [row is not None for row in known] == [False, False, True, True, True, True]
    again = AnswerRow(ROW.repo, "revision 5", '"tag"', 7.0, '{"sha": 1}')
    put_answer(catalogue, again, 4)
    assert find_answer(catalogue, ROW.repo, "revision 5") == again
