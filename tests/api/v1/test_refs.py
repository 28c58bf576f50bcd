"""Branches, tags, the log and names of repos: the same in a folder and through a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from models import make_weights, tune, write_model

from weightvault.api.client import http_refs
from weightvault.api.client.http_vault import HttpVault
from weightvault.dedup.errors import (
    Conflict,
    InvalidInput,
    InvalidName,
    RepoNotFound,
    RevisionNotFound,
)
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.transfer.push import push
from weightvault.dedup.vault import RefList, Vault
from weightvault.store.catalogue.access.rules import RetentionRules

REPO = "org/model"


@pytest.fixture(params=["local", "remote"])
def vault(request: pytest.FixtureRequest, local: LocalVault, remote: HttpVault) -> Vault:
    """An empty vault: one of this process, then one behind a server."""
    return local if request.param == "local" else remote


@pytest.fixture
def commits(vault: Vault, tmp_path: Path) -> list[str]:
    """Two commits of REPO, the older first."""
    weights = make_weights(1)
    made = []
    for seed in (2, 3):
        write_model(tmp_path / "model", tune(weights, seed))
        made.append(push(vault, tmp_path / "model", REPO).commit.id)
    return made


def test_branches_and_tags_come_and_go(vault: Vault, commits: list[str]) -> None:
    first, second = commits
    vault.create_branch(REPO, "dev/x", first[:7])
    vault.create_tag(REPO, "v1", "dev/x", "the first one")
    assert vault.list_refs(REPO) == RefList({"dev/x": first, "main": second}, {"v1": first})
    assert vault.resolve(REPO, "v1").commit.id == first
    for again in (vault.create_branch, vault.create_tag):
        with pytest.raises(Conflict, match="already"):
            again(REPO, "dev/x" if again == vault.create_branch else "v1")
    vault.delete_branch(REPO, "dev/x")
    vault.delete_tag(REPO, "v1")
    assert vault.list_refs(REPO) == RefList({"main": second}, {})
    with pytest.raises(Conflict, match="Cannot delete refs/heads/main"):
        vault.delete_branch(REPO, "main")


@pytest.mark.parametrize(
    "ask",
    [
        lambda vault, repo: vault.create_branch(repo, "dev", "nowhere"),
        lambda vault, repo: vault.create_tag(repo, "v1", "nowhere"),
        lambda vault, repo: vault.delete_branch(repo, "nowhere"),
        lambda vault, repo: vault.delete_tag(repo, "nowhere"),
        lambda vault, repo: vault.list_commits(repo, "nowhere"),
    ],
)
def test_what_is_not_there_is_named(
    vault: Vault, commits: list[str], ask: Callable[[Vault, str], object]
) -> None:
    with pytest.raises(RevisionNotFound):
        ask(vault, REPO)
    with pytest.raises(RepoNotFound):
        ask(vault, "org/other")


def test_the_log_goes_back_to_the_first_commit(vault: Vault, commits: list[str]) -> None:
    first, second = commits
    assert [commit.id for commit in vault.list_commits(REPO)] == [second, first]
    assert [commit.id for commit in vault.list_commits(REPO, first)] == [first]
    assert [commit.id for commit in vault.list_commits(REPO, limit=1)] == [second]


def test_a_long_log_is_read_in_pages(
    vault: Vault, commits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_refs, "_PAGE", 2)
    # What a branch says already is no new commit.
    manifests = [vault.resolve(REPO, commits[n % 2]).manifest for n in range(3)]
    made = [vault.commit(REPO, "main", manifest).id for manifest in manifests]
    whole = [*reversed(made), *reversed(commits)]
    for limit in (None, 1, 2, 3, 4, 5, 6):
        assert [commit.id for commit in vault.list_commits(REPO, limit=limit)] == whole[:limit]


def test_a_commit_is_named_by_seven_digits_of_it(vault: Vault, commits: list[str]) -> None:
    first = commits[0]
    for digits in (7, 20, 39, 40):
        assert vault.resolve(REPO, first[:digits]).commit.id == first
    for unknown in (first[:6], "0" * 7 if first[:7] != "0" * 7 else "1" * 7):
        with pytest.raises(RevisionNotFound):
            vault.resolve(REPO, unknown)
    # What a branch is called comes before what a commit begins with.
    vault.create_branch(REPO, first[:7], commits[1])
    assert vault.resolve(REPO, first[:7]).commit.id == commits[1]


def test_a_commit_says_why(vault: Vault, commits: list[str]) -> None:
    manifest = vault.resolve(REPO, commits[0]).manifest
    made = vault.commit(
        REPO, "main", manifest, message="back to the first\n\nThe second was bad.\n"
    )
    assert (made.title, made.message) == ("back to the first", "The second was bad.")
    assert vault.list_commits(REPO)[0] == made
    for text in ("x" * 4097, "nul \x00"):
        with pytest.raises(InvalidInput):
            vault.commit(REPO, "other", manifest, message=text)


def test_a_repo_gets_another_name(vault: Vault, commits: list[str]) -> None:
    vault.create_tag(REPO, "v1", commits[0])
    vault.rename_repo(REPO, "lab/model")
    assert [repo.name for repo in vault.list_repos()] == ["lab/model"]
    assert vault.resolve("lab/model", "v1").commit.id == commits[0]
    with pytest.raises(RepoNotFound):
        vault.rename_repo(REPO, "lab/other")
    with pytest.raises(InvalidName):
        vault.rename_repo("lab/model", "no name")


def test_ranges_of_files_are_read(vault: Vault, commits: list[str], tmp_path: Path) -> None:
    whole = (tmp_path / "model" / "model.safetensors").read_bytes()
    for start, stop in ((0, 8), (1000, 1001), (len(whole) - 5, len(whole)), (7, 7)):
        pieces = vault.read_range(REPO, commits[1], "model.safetensors", start, stop)
        assert b"".join(map(bytes, pieces)) == whole[start:stop]


def test_commits_are_forgotten(vault: Vault, commits: list[str]):
    vault.create_tag(REPO, "v1", commits[0])
    rules = RetentionRules(last=1)
    assert vault.forget(REPO, rules).forgotten_count == 0
    vault.delete_tag(REPO, "v1")
    planned = vault.forget(REPO, rules, dry_run=True)
    assert [commit.id for commit in vault.list_commits(REPO)] == commits[::-1]
    done = vault.forget(REPO, rules)
    assert [commit.id for commit in done.forgotten] == commits[:1]
    assert [(each.commit.id, each.reasons) for each in done.kept] == [
        (commits[1], ("branch main", "last"))
    ]
    assert (done.freed, done.counted) == (planned.freed, "stored")
    assert [commit.id for commit in vault.list_commits(REPO)] == commits[1:]
    with pytest.raises(InvalidInput):
        vault.forget(REPO, RetentionRules())
    with pytest.raises(RepoNotFound):
        vault.forget("org/none", rules)
