"""Names from outside: what is allowed, and that nothing that could escape is."""

import pytest

from weightvault.dedup.errors import InvalidName
from weightvault.dedup.model.names import check_branch, check_path, check_repo, check_revision


@pytest.mark.parametrize("repo", ["a/b", "org/my-model_v1.5", "A1/b.c", "0/9", "o/_m", "_o/m_"])
def test_good_repo(repo: str):
    assert check_repo(repo) == repo


@pytest.mark.parametrize(
    "repo",
    ["", "a", "a/b/c", "/a", "a/", "../x", "a/..", "./a", "a/b ", "a/b\n", "a/-b", "a/b.", "é/b",
     "a/b..c", "a\\b/c", "a/" + "b" * 97, "a/%2e"],
)  # fmt: skip
def test_bad_repo(repo: str):
    with pytest.raises(InvalidName, match="repo name") as caught:
        check_repo(repo)
    assert caught.value.hint


@pytest.mark.parametrize(
    "revision",
    [
        "main",
        "dev/x",
        "v1.0",
        "refs/pr/1",
        "0" * 40,
        "v1+ema",
        "feature#1",
        "a=b",
        "100%",
        "ü/ß",
        "x@y",
    ],
)
def test_good_revision(revision: str):
    assert check_revision(revision) == revision


@pytest.mark.parametrize(
    "revision",
    [
        "",
        "/",
        "a//b",
        "../x",
        "a/../b",
        "x" * 256,
        "a b",
        "-a",
        "@",
        "a@{1}",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "[a",
        "a\\b",
        "a/.b",
        "a.",
        "a/",
        "a\x7f",
        "a\u202eb",
        "\udc80",
    ],
)
def test_bad_revision(revision: str):
    with pytest.raises(InvalidName):
        check_revision(revision)


@pytest.mark.parametrize("name", ["a.lock/b"])
def test_branch_cannot_end_as_locks_of_git_do(name: str):
    with pytest.raises(InvalidName, match="lock"):
        check_branch(name)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("model", "me/model"),
        ("my model", "me/my-model"),
        ("org/model/", "org/model"),
        (" org/m", "org/m"),
        ("https://huggingface.co/org/m/tree/main", "org/m"),
        ("datasets/org/my set", "datasets/org/my-set"),
        ("a/b..c", "a/b.c"),
    ],
)
def test_a_near_miss_is_answered_with_what_was_meant(given: str, meant: str):
    with pytest.raises(InvalidName) as caught:
        check_repo(given)
    assert str(caught.value.hint).endswith(f": {meant}?")


def test_branch_cannot_pass_for_a_commit():
    with pytest.raises(InvalidName, match="commit id"):
        check_branch("0123456789" * 4)


@pytest.mark.parametrize("path", ["a", "a/b.json", ".gitattributes", "a b/ü.txt", "..a/b", "a..b"])
def test_good_path(path: str):
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\\b", "a\0b", "a\nb", "\udc80",
     "x" * 1025],
)  # fmt: skip
def test_bad_path(path: str):
    with pytest.raises(InvalidName, match="file path"):
        check_path(path)
