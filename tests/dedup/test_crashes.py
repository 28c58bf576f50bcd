"""Every write call of everything that changes a vault, failing in turn: nothing is lost.

An object put or deleted fails before or after it was carried out, as does every statement of the
catalogue and every end of a transaction. The same with real processes and SIGKILL is in
benchmarks/proofs/kill_loop.py.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from crashes import Crash, Faults, open_faulty
from models import make_weights, read_folder, tune, write_model
from vaults import open_local

from weightvault.dedup.errors import VaultError
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.maintenance.undelete_repo import undelete
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.dedup.verification.scrub import Scrubber
from weightvault.store.errors import StorageFull

SHAPES = {"w": (32, 64), "b": (64,)}


def make_store(root: Path, sources: Path) -> None:
    """A base with a model coded against it, and a deleted model beside them."""
    root.mkdir()
    vault = open_local(root)
    push(vault, source(sources, "base"), "org/base")
    push(vault, source(sources, "tuned"), "org/tuned", base="org/base")
    push(vault, source(sources, "gone"), "org/gone")
    vault.delete_repo("org/gone")
    vault.close()


def source(sources: Path, name: str) -> Path:
    folder = sources / name
    weights = make_weights(1, SHAPES)
    made = {
        "base": lambda: weights,
        "tuned": lambda: tune(weights, 2),
        "gone": lambda: make_weights(3, SHAPES),
        "new": lambda: tune(weights, 4),
    }
    return folder if folder.exists() else write_model(folder, made[name]())


# What is done, and the repo that it changes with what that holds afterwards.
def push_new(vault: LocalVault, sources: Path) -> None:
    push(vault, source(sources, "new"), "org/new", base="org/base")


def delete(vault: LocalVault, _: Path) -> None:
    vault.delete_repo("org/base")


def bring_back(vault: LocalVault, _: Path) -> None:
    undelete(vault, "org/gone")


def collect(vault: LocalVault, _: Path) -> None:
    Collector(vault, grace_seconds=0, dead_share=0.01).run()


def optimise(vault: LocalVault, _: Path) -> None:
    vault.optimise(0)


WORKS = [push_new, delete, bring_back, collect, optimise]
CHANGES = {"push_new": ("org/new", "new"), "delete": ("org/base", None)}
CHANGES["bring_back"] = ("org/gone", "gone")
BEFORE = {"org/base": "base", "org/tuned": "tuned"}


def assert_sound(root: Path, sources: Path, work: Callable, again: bool) -> None:
    """After a crash: what was committed reads back, and the work can be done again; then one
    collection leaves no garbage."""
    vault = open_local(root)
    repo, after = CHANGES.get(work.__name__, ("org/base", "base"))
    names = {r.name for r in vault.list_repos()}
    changed = {**BEFORE, repo: after}
    assert names in (set(BEFORE), {name for name, held in changed.items() if held})
    assert vault.check().problems == ()
    assert Scrubber(vault).run().problems == []
    if again:
        try:
            work(vault, sources)
        except VaultError:
            # Deleted, or brought back, all the same.
            assert names != set(BEFORE)
    for name, held in (changed if again else {n: BEFORE.get(n) or after for n in names}).items():
        if held:
            out = root / "out" / name
            pull(vault, name, out)
            assert read_folder(out) == read_folder(source(sources, held))
    Collector(vault, grace_seconds=0, dead_share=0.01).run()
    assert vault.report().garbage == 0
    assert Scrubber(vault).run().problems == []
    vault.close()


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize(
    ("kind", "step"),
    [
        ("before", 1),
        ("after", 2),
        ("statements", 11),
        pytest.param("after", 1, marks=pytest.mark.slow),
        pytest.param("statements", 1, marks=pytest.mark.slow),
    ],
)
def test_a_crash_at_every_write_loses_nothing(tmp_path: Path, work: Callable, kind: str, step: int):
    template = tmp_path / "template"
    make_store(template, tmp_path / "sources")
    at = 0
    while True:
        root = tmp_path / f"vault-{at}"
        copy_store(template, root)
        faults = Faults(at, after=kind == "after")
        vault = open_faulty(root, faults, statements=kind == "statements")
        try:
            work(vault, tmp_path / "sources")
            ended = True
        except Crash:
            ended = False
        finally:
            vault.close()
        assert_sound(root, tmp_path / "sources", work, again=at % 2 == 0)
        if ended:
            break
        at += step
    least = {"collect": 4, "push_new": 4, "delete": 1, "bring_back": 2, "optimise": 0}
    assert at >= least[work.__name__]


def copy_store(template: Path, root: Path) -> None:
    shutil.copytree(template, root)


@pytest.mark.parametrize("work", WORKS)
def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path, work: Callable):
    template = tmp_path / "template"
    make_store(template, tmp_path / "sources")

    def attempt(at: int) -> Faults:
        copy_store(template, tmp_path / f"vault-{at}")
        faults = Faults(at, after=False, error=StorageFull)
        vault = open_faulty(tmp_path / f"vault-{at}", faults, statements=False)
        try:
            work(vault, tmp_path / "sources")
        finally:
            vault.close()
        return faults

    for at in range(attempt(1000).seen):
        with pytest.raises((VaultError, StorageFull), match="no space left"):
            attempt(at)
        assert_sound(tmp_path / f"vault-{at}", tmp_path / "sources", work, again=True)
