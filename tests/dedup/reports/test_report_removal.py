"""What deleting would free: predicted, then done, and compared to the byte."""

import time
from collections.abc import Sequence
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import precondition, rule
from machines import ModelMachine, at_length, brief
from models import make_weights, tune, write_model

from weightvault.dedup.errors import RepoNotFound
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.collection import repack
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.model.report import DIMENSIONS, Prediction, Query
from weightvault.dedup.reports.removal_prediction import predict_removal
from weightvault.dedup.transfer.push import push
from weightvault.store.backends.open import open_backend
from weightvault.store.catalogue.catalogue import open_catalogue


def stored(vault: LocalVault) -> int:
    return sum(i.size for i in vault.backend.list() if not i.key.startswith("journal/"))


def collect(vault: LocalVault, dead_share: float = 0.5) -> None:
    copies = vault.base_copies() or None
    Collector(vault, grace_seconds=0, dead_share=dead_share, copies_from=copies).run()


def check_prediction(
    vault: LocalVault, repos: Sequence[str], dead_share: float = 0.5
) -> Prediction:
    """Predicts, deletes, collects, compares; returns the prediction."""
    # As every command and server does when it has done something; a collection does it, too.
    vault.note_heads()
    found = predict_removal(vault, repos, dead_share)
    assert found.exact
    assert found.before == stored(vault)
    for repo in repos:
        vault.delete_repo(repo)
    collect(vault, dead_share)
    assert stored(vault) == found.after
    assert found.freed == found.before - stored(vault)
    return found


def test_what_nobody_shares_is_freed(local: LocalVault, tmp_path: Path):
    push(local, write_model(tmp_path / "a", make_weights(1)), "org/a")
    push(local, write_model(tmp_path / "b", make_weights(2)), "org/b")
    found = check_prediction(local, ["org/b"])
    assert found.freed > local.report().frames / 2
    assert (found.waiting, found.written) == (0, 0)
    # The config is the same in both.
    (reason,) = found.kept
    assert (reason.why, reason.names) == ("other repos have the same chunks", ("org/a",))


def test_a_base_stays_for_deltas_on_it(local: LocalVault, tmp_path: Path):
    push(local, write_model(tmp_path / "a", make_weights(1)), "org/a")
    tuned = write_model(tmp_path / "b", tune(make_weights(1), 2))
    push(local, tuned, "org/b", base="org/a")
    found = check_prediction(local, ["org/a"])
    shared = local.describe_repo("org/b").cost
    why = {reason.why: reason for reason in found.kept}
    base = why["deltas in other repos need them as bases"]
    assert base.names == ("org/b",)
    assert base.bytes > 0.7 * shared.exclusive
    # Only its manifest goes: of the pack nearly all is the base.
    assert 0 < found.freed < 1000


def test_deleting_base_and_deltas_together_frees_both(local: LocalVault, tmp_path: Path):
    push(local, write_model(tmp_path / "a", make_weights(1)), "org/a")
    tuned = write_model(tmp_path / "b", tune(make_weights(1), 2))
    push(local, tuned, "org/b", base="org/a")
    found = check_prediction(local, ["org/a", "org/b"])
    assert found.kept == ()
    beside = [*local.backend.list("weightvault.json"), *local.backend.list("heads/")]
    assert found.after == sum(info.size for info in beside)


def test_what_waits_already_is_told_apart(local: LocalVault, tmp_path: Path):
    for i in range(3):
        push(local, write_model(tmp_path / str(i), make_weights(i)), f"org/{i}")
    local.delete_repo("org/0")
    found = check_prediction(local, ["org/1"])
    assert 0 < found.waiting < found.freed


def test_half_dead_packs_are_rewritten(local: LocalVault, tmp_path: Path):
    big = {f"w{i}": (64, 64) for i in range(4)}
    weights = make_weights(1, big)
    push(local, write_model(tmp_path / "a", weights), "org/a")
    one = {"w0": weights["w0"]}
    push(local, write_model(tmp_path / "b", one), "org/b")
    found = check_prediction(local, ["org/a"])
    assert found.written > 0
    assert found.freed > found.written


def test_packs_that_live_keep_their_dead_frames(local: LocalVault, tmp_path: Path):
    big = {f"w{i}": (64, 64) for i in range(4)}
    weights = make_weights(1, big)
    push(local, write_model(tmp_path / "a", weights), "org/a")
    most = {name: weights[name] for name in ("w0", "w1", "w2")}
    push(local, write_model(tmp_path / "b", most), "org/b")
    found = check_prediction(local, ["org/a"])
    why = [reason.why for reason in found.kept]
    assert why[-1] == "too little of their packs is dead to rewrite those"
    assert found.written == 0


def test_packs_of_several_groups(local: LocalVault, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(repack, "PACK_BYTES", 5000)
    big = {f"w{i}": (64, 64) for i in range(4)}
    for k in range(3):
        weights = make_weights(k, big)
        push(local, write_model(tmp_path / f"a{k}", weights), f"org/a{k}")
        push(local, write_model(tmp_path / f"b{k}", {"w0": weights["w0"]}), f"org/b{k}")
    packs = len(list(local.backend.list("packs/")))
    check_prediction(local, [f"org/a{k}" for k in range(3)])
    assert len(list(local.backend.list("packs/"))) == packs


def test_a_repo_that_is_not_there(local: LocalVault):
    with pytest.raises(RepoNotFound):
        predict_removal(local, ["org/none"])


def test_predicting_changes_nothing(local: LocalVault, tmp_path: Path):
    push(local, write_model(tmp_path / "a", make_weights(1)), "org/a")
    before = {info.key: info.size for info in local.backend.list()}
    report = local.report()
    predict_removal(local, ["org/a"])
    assert {info.key: info.size for info in local.backend.list()} == before
    assert local.report() == report


def test_predictions_and_reports_on_postgresql(postgres_url: str, tmp_path: Path):
    backend = open_backend(str(tmp_path / "objects"))
    vault = LocalVault(backend, open_catalogue(postgres_url), scratch=tmp_path)
    for i in range(3):
        weights = make_weights(i)
        push(vault, write_model(tmp_path / f"{i}", weights), f"org/{i}")
        push(vault, write_model(tmp_path / f"t{i}", tune(weights, i)), f"org/t{i}")
    before = vault.report(Query(DIMENSIONS))
    assert before.frames == sum(row.billed for row in before.by_repo)
    check_prediction(vault, ["org/0", "org/t1"])
    after = vault.report(Query(DIMENSIONS))
    for breakdown in after.breakdowns:
        assert sum(row.billed for row in breakdown.rows) == after.frames, breakdown.by
    assert after.stored == sum(info.size for info in backend.list())
    vault.close()


SHAPES = {"w": (24, 32), "v": (40, 16), "b": (64,)}
REPOS = ["org/a", "org/b", "other/a", "other/c"]


class RemovalMachine(ModelMachine):
    """Builds a random vault; any deletion in it does what was predicted."""

    shapes = SHAPES

    def __init__(self) -> None:
        super().__init__()
        self.held: set[str] = set()

    @rule(repo=st.sampled_from(REPOS), seed=st.integers(0, 11), tensors=st.integers(1, 3))
    def push(self, repo: str, seed: int, tensors: int) -> None:
        push(self.vault, self.source(seed, tensors), repo)
        self.held.add(repo)

    @rule(copies=st.sampled_from([0, 1, 2]))
    def keep_copies(self, copies: int) -> None:
        self.vault.keep_base_copies(copies)

    @rule()
    def retire(self) -> None:
        later = time.time() + 100
        copies = self.vault.base_copies() or None
        Collector(self.vault, grace_seconds=50, copies_from=copies, now=lambda: later).run()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), dead=st.sampled_from([0.01, 0.5, 0.9]))
    def delete_and_collect(self, data: st.DataObject, dead: float) -> None:
        some = st.lists(st.sampled_from(sorted(self.held)), max_size=3, unique=True)
        repos = data.draw(some)
        check_prediction(self.vault, repos, dead)
        self.held -= set(repos)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        repo = data.draw(st.sampled_from(sorted(self.held)))
        self.vault.delete_repo(repo)
        self.held.discard(repo)


class LongRemovalMachine(RemovalMachine):
    """The same for longer."""


RemovalMachine.TestCase.settings = brief(10)
LongRemovalMachine.TestCase.settings = at_length(300)
TestRemovals = RemovalMachine.TestCase
TestRemovalsForLong = pytest.mark.slow(pytest.mark.timeout(3600)(LongRemovalMachine.TestCase))
