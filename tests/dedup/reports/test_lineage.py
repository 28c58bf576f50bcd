"""The tree around a model: from what its tensors are coded against, not from what it is called."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from models import make_weights, tune, write_model
from vaults import open_local

from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.reports.lineage import Relative, find_lineage
from weightvault.dedup.transfer.push import push
from weightvault.store.catalogue.visibility import Scope

SHAPES = {f"model.layers.{i}.weight": (64, 64) for i in range(6)}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVault]:
    """A base, two tunes of it, one of them with a second branch, and a stranger."""
    tmp_path = tmp_path_factory.mktemp("family")
    vault = open_local(tmp_path / "vault")
    weights = make_weights(1, SHAPES)
    models = {"org/base": weights, "a/tune": tune(weights, 2), "b/tune": tune(weights, 3)}
    for repo, values in (models | {"c/other": make_weights(9, SHAPES)}).items():
        push(vault, write_model(tmp_path / repo, values), repo)
    push(vault, write_model(tmp_path / "dev", tune(weights, 4)), "a/tune", "dev")
    yield vault
    vault.close()


def names(tree: Relative) -> dict:
    """The tree as names within names."""
    return {tree.repo: [names(child) for child in tree.children]}


@pytest.mark.parametrize("repo", ["org/base", "a/tune", "b/tune"])
def test_members_of_a_family_hang_below_their_base(family: LocalVault, repo: str):
    tree = find_lineage(family.catalogue, repo)
    assert tree.repo == "org/base"
    assert {child.repo for child in tree.children} == {"a/tune", "b/tune"}
    assert all(not child.children for child in tree.children)


def test_sizes_are_those_of_the_newest_commit(family: LocalVault):
    tree = find_lineage(family.catalogue, "org/base")
    raw = {r.name: r.size for r in family.list_repos()}
    stored = {node.repo: node.stored or 0 for node in (tree, *tree.children)}
    for node in (tree, *tree.children):
        assert 0 < stored[node.repo] <= node.raw
        # Headers of files are chunks, too; nothing in these models is there twice.
        assert node.raw == raw[node.repo]
    assert stored["org/base"] > max(stored[child.repo] for child in tree.children)


def test_a_stranger_stands_alone(family: LocalVault):
    tree = find_lineage(family.catalogue, "c/other")
    assert names(tree) == {"c/other": []}


def test_who_must_not_be_seen_is_left_out(family: LocalVault):
    assert names(find_lineage(family.catalogue, "a/tune", Scope(("a",)))) == {"a/tune": []}
    assert names(find_lineage(family.catalogue, "a/tune", Scope(("a", "org")))) == {"a/tune": []}


def test_in_a_scope_equal_tensors_and_declared_bases_make_a_family(
    local: LocalVault, tmp_path: Path
):
    base = make_weights(1, SHAPES)
    # One that keeps most tensors, one that says where it is from, one of somebody else's.
    kept = base | dict(list(tune(base, 2).items())[:1])
    for repo, values, declared in (
        ("o/first", base, None),
        ("o/kept", kept, None),
        ("o/said", tune(base, 3), "o/first"),
        ("x/kept", kept, "o/first"),
    ):
        push(local, write_model(tmp_path / repo, values), repo, base=declared)
    tree = find_lineage(local.catalogue, "o/said", Scope(("o",)))
    assert names(tree) == {"o/first": [{"o/said": []}, {"o/kept": []}]}
    assert all(node.stored is None for node in (tree, *tree.children))
    assert names(find_lineage(local.catalogue, "x/kept", Scope(("x",)))) == {"x/kept": []}


def test_a_child_of_a_child_is_on_the_way(local: LocalVault, tmp_path: Path):
    base = make_weights(1, SHAPES)
    # Most of the second is new; the third is a tune of the new part alone.
    second = make_weights(2, SHAPES) | dict(list(tune(base, 3).items())[:2])
    third = tune(dict(list(second.items())[2:]), 4)
    for repo, values in (("o/first", base), ("o/second", second), ("o/third", third)):
        push(local, write_model(tmp_path / repo, values), repo)
    tree = find_lineage(local.catalogue, "o/third")
    assert names(tree) == {"o/first": [{"o/second": [{"o/third": []}]}]}
    assert names(find_lineage(local.catalogue, "o/first")) == {"o/first": [{"o/second": []}]}


def test_a_repo_without_tensors_is_a_tree_of_one(local: LocalVault, tmp_path: Path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "notes.txt").write_text("nothing to relate")
    push(local, folder, "org/texts")
    tree = find_lineage(local.catalogue, "org/texts")
    assert (names(tree), tree.more) == ({"org/texts": []}, 0)
