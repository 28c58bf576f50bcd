"""Families planned again at the pushes that double them, and chunks that nobody coded yet."""

from pathlib import Path

import numpy as np
import pytest
from families_at_work import check_family, optimise_all
from live_server import serving, wait_until
from models import make_weights, safetensors_bytes, tune, write_model

from weightvault.api.client.http_vault import HttpVault
from weightvault.api.requests.settings import ServerSettings
from weightvault.api.server.app import create_app
from weightvault.codecs.pipeline import encode_tensor
from weightvault.dedup.errors import RevisionNotFound, StorageFull
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.background_encode import BackgroundEncoder
from weightvault.dedup.model.files.entries import ChunkUse
from weightvault.dedup.model.sketch import make_sketch
from weightvault.dedup.similarity import newcomers
from weightvault.dedup.similarity.family_plan import MOST_CENTRES, Member, plan_family
from weightvault.dedup.transfer import push as pushing
from weightvault.dedup.transfer.push import push

SHAPES = {"w": (96, 64)}


@pytest.fixture
def vault(on_each_database: LocalVault) -> LocalVault:
    return on_each_database


def write_tunes(folder: Path, base: dict[str, np.ndarray], count: int) -> list[Path]:
    """Models tuned from one, first the farthest, that one itself last: the worst order there is."""
    scales = [1e-3, *[1e-4] * (count - 1)]
    models = [*(tune(base, seed, scale) for seed, scale in enumerate(scales, 2)), base]
    return [write_model(folder / f"m{i}", weights) for i, weights in enumerate(models)]


def tensor_of(vault: LocalVault, repo: str) -> bytes:
    (digest,) = {t.chunks[0] for f in vault.resolve(repo).manifest.files for t in f.tensors}
    return digest


def base_of(vault: LocalVault, repo: str) -> bytes | None:
    return vault.catalogue.locate([tensor_of(vault, repo)])[tensor_of(vault, repo)].base


def stop_recentring(vault: LocalVault, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StorageFull("no space left")

    monkeypatch.setattr(vault, "recentre", fail)


def encode_raw(use: ChunkUse, raw: bytes, *_: object) -> bytes:
    return encode_tensor(raw, use.dtype, codec="raw", digest=use.digest)


def test_the_fourth_member_becomes_the_centre(vault: LocalVault, tmp_path: Path):
    models = write_tunes(tmp_path, make_weights(1, SHAPES), 3)
    *_, before, last = [push(vault, model, f"org/m{i}") for i, model in enumerate(models)]
    assert before.saved == 0
    assert last.saved > 0
    centre = tensor_of(vault, "org/m3")
    assert [base_of(vault, f"org/m{i}") for i in range(4)] == [centre, centre, centre, None]
    check_family(vault, models, tmp_path / "out")
    assert optimise_all(vault)[0] == 0


def test_between_two_doublings_nothing_is_planned(
    vault: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    models = write_tunes(tmp_path, make_weights(1, SHAPES), 8)
    sizes = []
    plan = newcomers.plan_around

    def note(*arguments, **options):
        sizes.append(len(vault.list_repos()))
        return plan(*arguments, **options)

    monkeypatch.setattr(newcomers, "plan_around", note)
    for i, model in enumerate(models):
        push(vault, model, f"org/m{i}")
    assert sizes == [2, 4, 8]
    # What came before is not planned again when a commit has nothing new.
    assert push(vault, models[3], "org/copy").saved == 0
    assert vault.recentre("org/copy", "main").families == 0
    assert sizes == [2, 4, 8]


def test_a_push_is_done_whatever_becomes_of_the_plan(
    vault: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stop_recentring(vault, monkeypatch)
    models = write_tunes(tmp_path, make_weights(1, SHAPES), 3)
    assert {push(vault, m, f"org/m{i}").saved for i, m in enumerate(models)} == {0}
    check_family(vault, models, tmp_path / "out")
    monkeypatch.undo()
    with pytest.raises(RevisionNotFound):
        vault.recentre("org/m3", "no-such-branch")
    assert vault.recentre("org/m3", "main").changed == 1
    assert vault.recentre("org/m3", "main").changed == 0


def test_members_of_two_branches_rest_on_their_own(vault: LocalVault, tmp_path: Path):
    one = make_weights(1, SHAPES)
    other = tune(one, 2, 2e-3)
    weights = [one, *(tune(side, seed, 1e-5) for seed in range(3, 9) for side in (one, other))]
    models = [write_model(tmp_path / f"m{i}", w) for i, w in enumerate(weights)]
    for i, model in enumerate(models):
        push(vault, model, f"org/m{i}")
    optimise_all(vault)[0]
    bases = {base_of(vault, f"org/m{i}") for i in range(1, 13, 2)} - {None}
    others = [base_of(vault, f"org/m{i}") for i in range(2, 13, 2)]
    # At most one of the second branch rests on the first; it may as well be standalone.
    assert bases
    assert sum(base is None or base in bases for base in others) == 1
    check_family(vault, models, tmp_path / "out")


def test_what_was_stored_as_it_is_gets_coded(
    vault: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As an upload leaves it that was not coded before it was stored."""
    models = write_tunes(tmp_path, make_weights(1, SHAPES), 5)
    lone = tmp_path / "m6"
    lone.mkdir()
    own = np.random.default_rng(9)
    tensors = {
        "alone": ("F32", (4096,), own.normal(0, 1, 4096).astype(np.float32).tobytes()),
        "flat": ("F32", (4096,), bytes(16384)),
        "noise": ("U8", (9000,), own.bytes(9000)),
    }
    (lone / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    stop_recentring(vault, monkeypatch)
    monkeypatch.setattr(pushing, "encode_best", encode_raw)
    for i, model in enumerate([*models, lone]):
        push(vault, model, f"org/m{i}")
    before = vault.report().frames
    assert before >= vault.report().unique
    optimise_all(vault)[0]
    centre = tensor_of(vault, "org/m5")
    assert [base_of(vault, f"org/m{i}") for i in range(6)] == [*[centre] * 5, None]
    places = vault.catalogue.locate(list(vault.resolve("org/m6").manifest.digests()))
    shares = {p.raw_bytes: p.frame_bytes / p.raw_bytes for p in places.values()}
    assert sorted(shares[size] < 0.95 for size in (16384, 9000)) == [False, True]
    assert vault.report().frames < 0.7 * before
    check_family(vault, [*models, lone], tmp_path / "out")
    # The noise stays as it is, and is not tried again.
    assert optimise_all(vault)[0] == 0
    assert vault.optimise().families == 1


def test_a_thousand_chunks_as_they_are_leave_most_out_as_centres():
    """Only some are tried; a plan takes seconds otherwise."""
    rng = np.random.default_rng(1)
    base = rng.normal(0, 0.05, 4096).astype(np.float32)
    raws = [base + rng.normal(0, 1e-4, 4096).astype(np.float32) for _ in range(200)]
    members = [
        Member(make_sketch(raw.tobytes(), "F32"), raw.nbytes, None, coded=False) for raw in raws
    ]
    plan = plan_family(members)
    assert plan.after < 0.9 * plan.before
    assert 1 <= plan.bases.count(None) < MOST_CENTRES


@pytest.mark.parametrize("here", [True, False], ids=["itself", "in-another-process"])
def test_a_server_plans_after_the_commits_of_its_clients(
    vault: LocalVault, tmp_path: Path, here: bool
):
    models = write_tunes(tmp_path, make_weights(1, SHAPES), 3)
    # As `weightvault work` has it, which nobody tells of commits.
    elsewhere = BackgroundEncoder(vault, watch=True)
    with serving(create_app(vault, ServerSettings(background=here))) as url:
        client = HttpVault(url)
        for i, model in enumerate(models):
            assert push(client, model, f"org/m{i}").saved == 0
            if i == 0 and not here:
                elsewhere.start()
        centre = tensor_of(vault, "org/m3")
        wait_until(lambda: base_of(vault, "org/m0") == centre)
        client.close()
    elsewhere.stop()
    assert [base_of(vault, f"org/m{i}") for i in range(4)] == [centre, centre, centre, None]
    check_family(vault, models, tmp_path / "out")
