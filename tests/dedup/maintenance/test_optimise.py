"""Families coded anew: smaller, the same bytes out, whatever happens on the way."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from families_at_work import check_family, optimise_all
from models import make_weights, read_folder, safetensors_bytes, tune, write_model
from upkeep import gc
from vaults import FailingWrites, open_anew, open_local

from weightvault.dedup.errors import InvalidInput, StorageFull
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance import optimise, reencode
from weightvault.dedup.model.inputs import CHAIN_LENGTH
from weightvault.dedup.similarity.family import PlannedFamily
from weightvault.dedup.similarity.reads_bound import LEAST_READS, MOST_READS
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.dedup.verification.scrub import Scrubber
from weightvault.store.backends.open import open_backend
from weightvault.store.catalogue.catalogue import open_catalogue
from weightvault.store.errors import StorageFull as BackendFull

SHAPES = {"a.weight": (96, 64), "b.weight": (64, 64), "norm.weight": (512,)}
TUNED = 6


@pytest.fixture
def vault(on_each_database: LocalVault) -> LocalVault:
    return on_each_database


def write_family(folder: Path) -> list[Path]:
    """Models tuned from one, which comes last: the worst order there is."""
    base = make_weights(1, SHAPES)
    base["norm.weight"] = 1 + base["norm.weight"]
    models = [*(tune(base, seed, 3e-4) for seed in range(2, 2 + TUNED)), base]
    return [write_model(folder / f"m{i}", weights) for i, weights in enumerate(models)]


def push_family(vault: LocalVault, models: list[Path]) -> None:
    for i, model in enumerate(models):
        push(vault, model, f"org/m{i}")


def test_a_better_centre_that_came_last(vault: LocalVault, tmp_path: Path):
    models = write_family(tmp_path)
    push_family(vault, models)
    before = vault.report()
    assert before.stages.deltas > 0
    dry = vault.optimise(dry_run=True)
    assert vault.report() == before
    saved = optimise_all(vault)[1]
    after = vault.report()
    assert before.frames - after.frames == saved
    assert saved > 0.04 * before.frames
    assert dry.before - dry.after == pytest.approx(saved, rel=0.5)
    # What was replaced went at once.
    assert after.garbage <= 0.03 * after.frames
    check_family(vault, models, tmp_path / "out")
    weights = [t for f in vault.resolve(f"org/m{TUNED}").manifest.files for t in f.tensors]
    places = vault.catalogue.locate([t.chunks[0] for t in weights if t.name == "a.weight"])
    assert [place.base for place in places.values()] == [None]
    assert optimise_all(vault)[1] == 0


def test_the_order_of_pushes_does_not_matter_afterwards(tmp_path: Path):
    models = write_family(tmp_path)
    totals = []
    for order in (range(TUNED + 1), range(TUNED, -1, -1), (3, 6, 0, 5, 1, 4, 2)):
        vault = open_local(tmp_path / f"vault{len(totals)}")
        for i in order:
            push(vault, models[i], f"org/m{i}")
        optimise_all(vault)[1]
        totals.append(vault.report().frames)
        vault.close()
    assert max(totals) <= 1.02 * min(totals)


def push_checkpoints(root: Path) -> tuple[LocalVault, list[Path]]:
    """A vault with the checkpoints of a run, pushed in any order as repos of their own."""
    weights, models = make_weights(5, SHAPES), list[Path]()
    for step in range(9):
        weights = tune(weights, step, 3e-4)
        models.append(write_model(root / f"m{step}", weights))
    vault = open_local(root / "vault")
    for i in (4, 0, 8, 2, 6, 1, 7, 3, 5):
        push(vault, models[i], f"org/m{i}")
    return vault, models


def deepest(vault: LocalVault, models: list[Path]) -> int:
    """Returns the highest level of a chunk of the models."""
    levels = list[int]()
    for i in range(len(models)):
        digests = vault.resolve(f"org/m{i}").manifest.digests()
        places = vault.catalogue.locate(list(digests)).values()
        levels += [place.level for place in places if place.raw_bytes > 4096]
    return max(levels)


def test_a_run_of_checkpoints_becomes_chains(tmp_path: Path):
    """Whatever the order in which they come, and with plans of stars less would be saved."""
    vault, models = push_checkpoints(tmp_path)
    optimise_all(vault)
    assert 1 < deepest(vault, models) <= CHAIN_LENGTH
    frames = vault.report().frames
    check_family(vault, models, tmp_path / "out")
    assert not Scrubber(vault).run().problems
    assert optimise_all(vault)[1] < 0.02 * frames
    vault.close()


@pytest.mark.parametrize("reads", range(LEAST_READS, MOST_READS + 1))
def test_chains_are_as_long_as_reads_may_be(tmp_path: Path, reads: int):
    vault, models = push_checkpoints(tmp_path)
    vault.optimise_all()
    frames = vault.report().frames
    said = vault.optimise_all(dry_run=True, reads=reads)
    done = vault.optimise_all(reads=reads)
    assert 1 <= deepest(vault, models) < reads
    assert done.saved == frames - vault.report().frames
    assert abs(said.saved - done.saved) <= 0.05 * frames
    assert (done.saved < 0) == (reads < MOST_READS)
    # It is kept to, also by what plans without being told.
    push(vault, write_model(tmp_path / "m9", tune(make_weights(5, SHAPES), 9, 3e-4)), "org/m9")
    vault.optimise_all()
    assert deepest(vault, models) < reads
    check_family(vault, models, tmp_path / "out")
    assert not Scrubber(vault).run().problems
    # And given up again.
    again = vault.optimise_all(reads=MOST_READS)
    assert again.saved >= 0
    assert again.saved > 0 or reads > LEAST_READS
    check_family(vault, models, tmp_path / "again")
    vault.close()


def test_a_bound_of_reads_that_is_none_is_refused(vault: LocalVault):
    for reads in (LEAST_READS - 1, MOST_READS + 1):
        with pytest.raises(InvalidInput, match="is no bound"):
            vault.optimise_all(reads=reads)
    assert vault.optimise_all().changed == 0


def test_a_rebuilt_catalogue_has_the_same_plan_and_sketches(tmp_path: Path):
    models = write_family(tmp_path)
    vault = open_local(tmp_path / "vault")
    push_family(vault, models)
    optimise_all(vault)[1]
    report = vault.report()
    vault.close()
    rebuilt = open_anew(tmp_path / "vault")
    assert rebuilt.report() == report
    assert optimise_all(rebuilt)[1] == 0
    check_family(rebuilt, models, tmp_path / "out")
    newcomer = write_model(tmp_path / "new", tune(make_weights(1, SHAPES), 99, 3e-4))
    assert push(rebuilt, newcomer, "org/new").sent < 0.7 * report.unique / (TUNED + 1)
    rebuilt.close()


@pytest.mark.parametrize("after", [False, True], ids=["not done", "done but unanswered"])
@pytest.mark.parametrize("at", range(3))
def test_a_crash_anywhere_leaves_a_readable_store(tmp_path: Path, at: int, after: bool):
    """Writes of a step: sketches, pack, journal entry."""
    models = write_family(tmp_path)
    vault = open_local(tmp_path / "vault")
    push_family(vault, models)
    frames = vault.report().frames
    vault.close()
    failing = open_local(
        tmp_path / "vault", lambda b: FailingWrites(b, at, BackendFull("no space"), after=after)
    )
    with pytest.raises(StorageFull):
        failing.optimise()
    assert failing.report().frames == frames
    failing.close()
    reopened = open_local(tmp_path / "vault")
    # An entry that did become durable is carried out by whoever opens the vault next.
    assert (reopened.report().frames < frames) == ((at, after) == (2, True))
    check_family(reopened, models, tmp_path / "out")
    optimise_all(reopened)[1]
    assert reopened.report().frames < frames
    check_family(reopened, models, tmp_path / "out")
    reopened.close()


def test_a_catalogue_of_another_machine_follows(tmp_path: Path):
    models = write_family(tmp_path)
    vault = open_local(tmp_path / "vault")
    push_family(vault, models)
    other_url = f"sqlite:///{tmp_path / 'other.sqlite'}"
    objects = str(tmp_path / "vault" / "objects")
    other = LocalVault(open_backend(objects), open_catalogue(other_url), scratch=tmp_path)
    optimise_all(vault)[1]
    # The other machine does not know yet that its base is to be a delta.
    late = write_model(tmp_path / "late", tune(make_weights(1, SHAPES), 50, 3e-4))
    push(other, late, "org/late")
    other.close()
    vault.close()
    for database in (None, other_url):
        one = (
            open_local(tmp_path / "vault")
            if database is None
            else LocalVault(open_backend(objects), open_catalogue(database), scratch=tmp_path)
        )
        check_family(one, models, tmp_path / "out")
        pull(one, "org/late", tmp_path / "late-out")
        assert read_folder(tmp_path / "late-out") == read_folder(late)
        shutil.rmtree(tmp_path / "late-out")
        one.close()


def test_steps_stop_and_go_on(vault: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    models = write_family(tmp_path)
    push_family(vault, models)
    monkeypatch.setattr(optimise, "STEP_BYTES", 1)
    first = vault.optimise()
    assert first.changed == 1
    assert first.cursor is not None
    check_family(vault, models, tmp_path / "out")
    assert optimise_all(vault)[1] > 0
    check_family(vault, models, tmp_path / "out")


def test_plans_that_do_not_pay_are_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    vault = open_local(tmp_path / "vault")
    push_family(vault, write_family(tmp_path))
    monkeypatch.setattr(reencode, "_encode_row", lambda row, raw, *_: bytes(raw) + bytes(64))
    assert vault.optimise().changed == 0
    monkeypatch.undo()
    assert vault.optimise().families < 3
    vault.close()


def test_degenerate_tensors_attach_to_nothing(tmp_path: Path):
    """Equal shapes, and values that many unrelated tensors have."""

    def make(seed: int) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
        own = np.random.default_rng(seed)
        row = own.normal(0, 1, 64)
        arrays = {
            "zero": np.zeros(4096),
            "norm": 1 + own.normal(0, 0.01, 4096),
            "bias": own.normal(0, 1e-3, 4096),
            "rows": np.tile(row, 64),
            "sparse": np.where(own.random(4096) < 0.02, own.normal(0, 1, 4096), 0),
            "mask": (own.random(4096) < 0.5).astype(np.float64),
        }
        return {n: ("F32", (64, 64), v.astype(np.float32).tobytes()) for n, v in arrays.items()}

    vault = open_local(tmp_path / "vault")
    for seed in range(8):
        folder = tmp_path / f"m{seed}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(safetensors_bytes(make(seed)))
        push(vault, folder, f"org/m{seed}")
    optimise_all(vault)[1]
    digests = {d for i in range(8) for d in vault.resolve(f"org/m{i}").manifest.digests()}
    assert all(place.base is None for place in vault.catalogue.locate(digests).values())
    vault.close()


@pytest.mark.parametrize("at", ["read", "store"])
def test_what_is_collected_within_a_step_is_passed_over(
    vault: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
):
    models = write_family(tmp_path)
    push_family(vault, models)
    push(vault, write_model(tmp_path / "other", make_weights(9)), "org/other")

    def collect() -> None:
        # What the collection itself stores is not meant.
        monkeypatch.undo()
        for i in range(len(models)):
            vault.delete_repo(f"org/m{i}")
        gc(vault)

    if at == "read":
        encode = reencode.Reencoding._encode

        def encode_late(self: reencode.Reencoding, family: PlannedFamily) -> object:
            collect()
            return encode(self, family)

        monkeypatch.setattr(reencode.Reencoding, "_encode", encode_late)
    else:
        store = reencode.TemporaryPack.store

        def store_late(self: reencode.TemporaryPack) -> str:
            collect()
            return store(self)

        monkeypatch.setattr(reencode.TemporaryPack, "store", store_late)
    assert vault.optimise().changed == 0
    assert [info.name for info in vault.list_repos()] == ["org/other"]
    assert vault.optimise_all().changed == 0
    check = vault.check()
    assert not check.problems
