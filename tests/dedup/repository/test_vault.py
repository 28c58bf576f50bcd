"""The whole path over real stores: in, out, once, and what is left when something fails."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from models import (
    bf16_file,
    make_weights,
    read_folder,
    safetensors_bytes,
    tune,
    write_model,
)
from vaults import open_local

from weightvault.dedup.errors import (
    ChunksMissing,
    EntryNotFound,
    InvalidFile,
    InvalidInput,
    InvalidName,
    RepoNotFound,
    RevisionNotFound,
    TensorNotFound,
)
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.store.backends.open import open_backend
from weightvault.store.catalogue.catalogue import open_catalogue


@pytest.fixture(params=["directory", "s3"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalVault]:
    """An empty vault on each kind of object store."""
    if request.param == "directory":
        opened = open_local(tmp_path / "vault")
    else:
        backend = open_backend(request.getfixturevalue("s3_url"))
        catalogue = open_catalogue(f"sqlite:///{tmp_path / 'catalogue.sqlite'}")
        opened = LocalVault(backend, catalogue, scratch=tmp_path)
    yield opened
    opened.close()


def test_files_come_back_byte_for_byte(vault: LocalVault, model: Path, tmp_path: Path):
    (model / "empty").touch()
    (model / "sub").mkdir()
    (model / "sub" / "vocab.bin").write_bytes(bytes(range(256)) * 9)
    result = push(vault, model, "org/m")
    assert result.files == 4
    pulled = pull(vault, "org/m", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(model)
    assert (pulled.files, pulled.unchanged, pulled.logical) == (4, 0, result.logical)
    assert vault.check().problems == ()


def test_second_push_sends_nothing(vault: LocalVault, model: Path):
    first = push(vault, model, "org/m")
    again = push(vault, model, "org/m")
    assert (again.sent, again.new_chunks) == (0, 0)
    assert again.commit == first.commit
    elsewhere = push(vault, model, "org/copy")
    assert elsewhere.sent == 0
    assert elsewhere.commit.manifest == first.commit.manifest


def test_equal_tensors_are_stored_once_whatever_the_file(local: LocalVault, tmp_path: Path):
    weights = make_weights(1)
    push(local, write_model(tmp_path / "whole", weights), "org/whole")
    shards = tmp_path / "shards"
    shards.mkdir()
    for i, (name, values) in enumerate(weights.items()):
        (shards / f"model-{i}.safetensors").write_bytes(bf16_file({f"renamed.{name}": values}))
    result = push(local, shards, "org/sharded")
    # New are only the three headers.
    assert (result.new_chunks, result.known_chunks) == (3, 3)
    pull(local, "org/sharded", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(shards)


@pytest.mark.parametrize("declared", [None, "org/base"])
def test_base_makes_deltas_declared_or_not(
    local: LocalVault, model: Path, tmp_path: Path, declared: str | None
):
    base = push(local, model, "org/base")
    tuned = write_model(tmp_path / "tuned", tune(make_weights(1), 2))
    delta = push(local, tuned, "org/tuned", base=declared)
    assert delta.sent < 0.6 * base.sent
    assert delta.commit.base == declared
    pull(local, "org/tuned", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(tuned)


def test_model_card_declares_the_base(local: LocalVault, model: Path, tmp_path: Path):
    push(local, model, "org/base")
    card = "---\nbase_model:\n- nobody/has-it\n- org/base\n---\n# Tuned\n"
    tuned = write_model(tmp_path / "tuned", tune(make_weights(1), 2), card)
    assert push(local, tuned, "org/tuned").commit.base == "org/base"
    assert local.report().stages.deltas > 0


def test_a_card_names_a_base_that_comes_later(local: LocalVault, tmp_path: Path):
    card = "---\nbase_model:\n- org/later\n- nobody/has-it\n---\n"
    early = write_model(tmp_path / "early", make_weights(1), card)
    assert push(local, early, "org/early").commit.base == "org/later"


def test_a_tune_of_a_tune_is_coded_against_it(local: LocalVault, model: Path, tmp_path: Path):
    push(local, model, "org/base")
    weights = tune(make_weights(1), 2)
    push(local, write_model(tmp_path / "t1", weights), "org/t1", base="org/base")
    push(local, write_model(tmp_path / "t2", tune(weights, 3)), "org/t2", base="org/t1")
    weight = {t.name: t for t in local.resolve("org/t2").manifest.files[1].tensors}["embed.weight"]
    (place,) = local.catalogue.locate(weight.chunks).values()
    assert place.level == 2
    assert place.base in local.resolve("org/t1").manifest.digests()
    pull(local, "org/t2", tmp_path / "back")
    assert read_folder(tmp_path / "back") == read_folder(tmp_path / "t2")
    assert local.check().problems == ()


def test_next_commit_is_coded_against_the_one_before(
    local: LocalVault, model: Path, tmp_path: Path
):
    first = push(local, model, "org/m")
    write_model(tmp_path / "next", tune(make_weights(1), 2))
    second = push(local, tmp_path / "next", "org/m")
    assert second.sent < 0.6 * first.sent
    assert second.commit.parent == first.commit.id
    pull(local, "org/m", tmp_path / "old", first.commit.id)
    assert read_folder(tmp_path / "old") == read_folder(model)


def test_base_outlives_its_repo(local: LocalVault, model: Path, tmp_path: Path):
    push(local, model, "org/base")
    tuned = write_model(tmp_path / "tuned", tune(make_weights(1), 2))
    push(local, tuned, "org/tuned", base="org/base")
    local.delete_repo("org/base")
    pull(local, "org/tuned", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(tuned)
    assert local.check().problems == ()


def test_large_tensors_are_cut_into_chunks(local: LocalVault, tmp_path: Path):
    weights = make_weights(1, {"w": (700, 300), "b": (300,)})
    model = write_model(tmp_path / "model", weights)
    result = push(local, model, "org/m", chunk_bytes=1 << 16)
    assert result.new_chunks > 7
    tuned = write_model(tmp_path / "tuned", tune(weights, 2))
    delta = push(local, tuned, "org/t", base="org/m", chunk_bytes=1 << 16)
    assert delta.sent < 0.6 * result.sent
    pull(local, "org/t", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(tuned)


def test_ranges_and_tensors_are_read_alone(local: LocalVault, tmp_path: Path):
    weights = make_weights(1, {"w": (700, 300), "b": (300,)})
    model = write_model(tmp_path / "model", weights)
    push(local, model, "org/m", chunk_bytes=1 << 16)
    data = (model / "model.safetensors").read_bytes()
    rng = np.random.default_rng(0)
    edges = [0, 1, 8, 65536, 65537, len(data) - 1, len(data)]
    for _ in range(60):
        start, stop = sorted(rng.choice([*edges, *rng.integers(0, len(data), 8)], 2))
        _, _, pieces = local.read_file("org/m", "main", "model.safetensors", start, stop)
        assert b"".join(pieces) == data[start:stop]
    for name, values in weights.items():
        _, place, pieces = local.read_tensor("org/m", "main", name)
        raw = b"".join(pieces)
        assert place.tensor.shape == values.shape
        assert raw in data
        assert len(raw) == values.size * 2


def test_tensor_of_several_files_needs_the_file(local: LocalVault, tmp_path: Path):
    for name in ("a", "b"):
        raw = name.encode() * 8
        tmp = tmp_path / "model" / f"{name}.safetensors"
        tmp.parent.mkdir(exist_ok=True)
        tmp.write_bytes(safetensors_bytes({"w": ("U8", (8,), raw)}))
    push(local, tmp_path / "model", "org/m")
    with pytest.raises(InvalidInput, match=r"a\.safetensors, b\.safetensors"):
        local.read_tensor("org/m", "main", "w")
    _, _, pieces = local.read_tensor("org/m", "main", "w", "b.safetensors")
    assert b"".join(pieces) == b"b" * 8


def test_pull_leaves_right_files_alone_and_mends_wrong_ones(
    local: LocalVault, model: Path, tmp_path: Path
):
    push(local, model, "org/m")
    out = tmp_path / "out"
    pull(local, "org/m", out)
    (out / "config.json").write_bytes(b"changed")
    (out / "mine.txt").write_bytes(b"kept")
    before = (out / "model.safetensors").stat().st_mtime_ns
    again = pull(local, "org/m", out)
    assert again.unchanged == 1
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    assert read_folder(out) == {**read_folder(model), "mine.txt": b"kept"}


# What is asked for and not there


def test_missing_things_are_named(local: LocalVault, model: Path, tmp_path: Path):
    push(local, model, "org/m")
    with pytest.raises(RepoNotFound, match="org/none"):
        pull(local, "org/none", tmp_path / "out")
    with pytest.raises(RevisionNotFound, match="dev"):
        pull(local, "org/m", tmp_path / "out", "dev")
    with pytest.raises(RepoNotFound):
        push(local, model, "org/x", base="org/none")
    with pytest.raises(RepoNotFound):
        local.delete_repo("org/none")
    with pytest.raises(EntryNotFound):
        local.read_file("org/m", "main", "nope")
    with pytest.raises(TensorNotFound):
        local.read_tensor("org/m", "main", "nope")
    assert not (tmp_path / "out").exists()
    assert [r.name for r in local.list_repos()] == ["org/m"]


@pytest.mark.parametrize("bad", ["../x", "x", "a/../b"])
def test_bad_names_change_nothing(local: LocalVault, model: Path, bad: str, tmp_path: Path):
    for attempt in (
        lambda: push(local, model, bad),
        lambda: push(local, model, "org/m", "../x"),
        lambda: push(local, model, "org/m", base=bad),
        lambda: pull(local, bad, tmp_path / "out"),
        lambda: local.delete_repo(bad),
    ):
        with pytest.raises(InvalidName):
            attempt()
    assert list(local.backend.list()) == []


def test_a_refused_file_leaves_nothing(local: LocalVault, model: Path):
    (model / "tensors").symlink_to("nowhere")
    with pytest.raises(InvalidFile, match="tensors"):
        push(local, model, "org/m")
    assert list(local.backend.list()) == []
    assert local.list_repos() == []


def test_nothing_to_push(local: LocalVault, tmp_path: Path):
    with pytest.raises(InvalidFile, match="neither"):
        push(local, tmp_path / "none", "org/m")
    (tmp_path / "hollow").mkdir()
    with pytest.raises(InvalidFile, match="no files"):
        push(local, tmp_path / "hollow", "org/m")


def test_chunks_of_other_repos_are_not_given_out(local: LocalVault, model: Path, tmp_path: Path):
    push(local, model, "org/m")
    push(local, write_model(tmp_path / "other", make_weights(5)), "org/other")
    secret = list(local.resolve("org/other").manifest.digests())
    theirs = [d for d in secret if d not in local.resolve("org/m").manifest.digests()]
    with pytest.raises(ChunksMissing):
        list(local.read_frames("org/m", "main", theirs[:1]))
    with pytest.raises(ChunksMissing):
        list(local.read_frames("org/m", "main", [bytes(32)]))
