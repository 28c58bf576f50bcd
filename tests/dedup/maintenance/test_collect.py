"""Collection: what goes, when, and what stays."""

from pathlib import Path

import pytest
from models import make_weights, tune, write_model
from upkeep import GRACE, Clock, assert_pulls, gc, keys, model
from vaults import open_anew, open_local

from weightvault.dedup.errors import Conflict
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.transfer.push import push
from weightvault.store.catalogue.catalogue import open_catalogue
from weightvault.store.catalogue.tombstones import list_tombstones, set_tombstones


def test_nothing_that_is_needed_goes(local: LocalVault, tmp_path: Path):
    push(local, model(tmp_path, 1), "org/base")
    tuned = write_model(tmp_path / "t", tune(make_weights(1), 2))
    push(local, tuned, "org/tuned", base="org/base")
    local.delete_repo("org/base")
    before = keys(local)
    done = gc(local)
    # The base's weights stay for the deltas on them; its manifest and nothing else goes.
    (gone,) = before - keys(local)
    assert done.removed == 1
    assert gone.startswith("manifests/")
    assert_pulls(local, "org/tuned", tuned, tmp_path / "out")


def test_garbage_goes_after_the_grace_and_not_before(local: LocalVault, tmp_path: Path):
    clock = Clock()
    kept = model(tmp_path, 1)
    push(local, kept, "org/kept")
    alone = keys(local)
    push(local, model(tmp_path, 2), "org/gone")
    local.delete_repo("org/gone")
    clock.ahead = GRACE + 1
    assert gc(local, GRACE, now=clock).removed == 0
    clock.ahead = 2 * GRACE
    waiting = gc(local, GRACE, now=clock)
    assert (waiting.retired, waiting.removed, waiting.waiting) == (0, 0, 2)
    clock.ahead = 2 * GRACE + 2
    done = gc(local, GRACE, now=clock)
    assert (done.removed, done.waiting) == (2, 0)
    beside = ("journal/", "heads/")
    assert {k for k in keys(local) if not k.startswith(beside)} == {
        k for k in alone if not k.startswith(beside)
    }
    assert local.report().garbage == 0
    assert list_tombstones(local.catalogue) == {}
    assert_pulls(local, "org/kept", kept, tmp_path / "out")


def test_a_tombstone_that_a_commit_got_ahead_of_keeps_no_garbage(local: LocalVault, tmp_path: Path):
    both = make_weights(1)
    name = sorted(both)[0]
    push(local, write_model(tmp_path / "both", both), "org/both")
    kept = write_model(tmp_path / "kept", {name: both[name]})
    push(local, kept, "org/kept")
    local.delete_repo("org/both")
    packs = [key for key in keys(local) if key.startswith("packs/")]
    # Set by a collection that had looked before the commit.
    set_tombstones(local.catalogue, packs, 1.0, f"journal/{1:016x}-0")
    said = Collector(local, grace_seconds=0, dead_share=0.01).predict()
    done = Collector(local, grace_seconds=0, dead_share=0.01).run()
    assert said.compacted == done.compacted == 1
    assert local.report().garbage == 0
    assert_pulls(local, "org/kept", kept, tmp_path / "out")


def test_what_is_younger_than_the_grace_is_not_even_retired(local: LocalVault, tmp_path: Path):
    push(local, model(tmp_path, 1), "org/m")
    local.delete_repo("org/m")
    assert gc(local, GRACE).retired == 0


def test_tombstones_of_a_clock_that_is_ahead_need_no_grace_but_the_one_given(
    local: LocalVault, tmp_path: Path
):
    clock = Clock()
    push(local, model(tmp_path, 1), "org/gone")
    local.delete_repo("org/gone")
    clock.ahead = 2 * GRACE
    assert gc(local, GRACE, now=clock).retired == 2
    assert gc(local, 1.0).removed == 0
    assert gc(local).removed == 2


def test_dry_run_says_what_would_go_and_changes_nothing(local: LocalVault, tmp_path: Path):
    push(local, model(tmp_path, 1), "org/kept")
    push(local, model(tmp_path, 2), "org/gone")
    local.delete_repo("org/gone")
    before = {info.key: info.size for info in local.backend.list()}
    said = Collector(local, grace_seconds=0).predict()
    assert {info.key: info.size for info in local.backend.list()} == before
    done = gc(local)
    after = {info.key: info.size for info in local.backend.list()}
    assert (
        (said.removed, said.removed_bytes)
        == (done.removed, done.removed_bytes)
        == (2, done.removed_bytes)
    )
    gone = before.keys() - after.keys()
    assert sum(before[key] for key in gone) == done.removed_bytes


def test_packs_of_dead_pushes_go(tmp_path: Path):
    vault = open_local(tmp_path / "vault")
    path = model(tmp_path, 1)

    def refuse(*_: object, **__: object) -> None:
        raise Conflict("the process died here")

    vault.commit = refuse  # type: ignore[method-assign]
    with pytest.raises(Conflict):
        push(vault, path, "org/m")
    vault.close()
    reopened = open_anew(tmp_path / "vault")
    assert gc(reopened).removed == 1
    assert keys(reopened) - {"weightvault.json"} == {
        k for k in keys(reopened) if k.startswith("journal/")
    }
    push(reopened, path, "org/m")
    assert_pulls(reopened, "org/m", path, tmp_path / "out")
    reopened.close()


def test_pushing_again_takes_the_tombstones_away(local: LocalVault, tmp_path: Path):
    clock = Clock()
    path = model(tmp_path, 1)
    push(local, path, "org/m")
    local.delete_repo("org/m")
    clock.ahead = GRACE + 1
    assert gc(local, GRACE, now=clock).retired == 2
    again = push(local, path, "org/again")
    assert again.sent == 0
    assert list_tombstones(local.catalogue) == {}
    clock.ahead = 9 * GRACE
    assert gc(local, GRACE, now=clock).removed == 0
    assert_pulls(local, "org/again", path, tmp_path / "out")


def test_mostly_dead_packs_are_compacted(local: LocalVault, tmp_path: Path):
    """One pack with two models' tensors; then only one of them is left."""
    both = tmp_path / "both"
    small = make_weights(1, {"w": (64, 64)})
    write_model(both / "small", small)
    write_model(both / "large", make_weights(2))
    push(local, both, "org/both")
    alone = write_model(tmp_path / "alone", small)
    push(local, alone, "org/small")
    local.delete_repo("org/both")
    done = gc(local)
    assert (done.compacted, done.removed) == (1, 2)
    assert local.report().garbage == 0
    assert_pulls(local, "org/small", alone, tmp_path / "out")


def test_a_rebuilt_catalogue_follows_a_collection(local: LocalVault, tmp_path: Path):
    kept = model(tmp_path, 1)
    push(local, kept, "org/kept")
    push(local, model(tmp_path, 2), "org/gone")
    local.delete_repo("org/gone")
    gc(local)
    report = local.report()
    other = LocalVault(
        local.backend, open_catalogue(f"sqlite:///{tmp_path / 'other.sqlite'}"), scratch=tmp_path
    )
    assert other.report() == report
    assert_pulls(other, "org/kept", kept, tmp_path / "out")
    other.catalogue.close()
