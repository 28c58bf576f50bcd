"""Copies that can be computed: found by content, stored as recipes, given back to the bit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import gguf
import numpy as np
import pytest
from models import read_folder, safetensors_bytes

from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.similarity.sources import list_tensors
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.store.packs import DERIVED

HEADS, ROWS, COLUMNS = 4, 96, 160
NAMES = ("first", "second", "third")
Weights = dict[str, np.ndarray]


def make_source(seed: int = 1) -> Weights:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.05, (ROWS, COLUMNS)).astype(np.float32) for name in NAMES}


def to_bf16(values: np.ndarray) -> np.ndarray:
    words = np.ascontiguousarray(values).view(np.uint32)
    return ((words + 0x7FFF + (words >> 16 & 1)) >> 16).astype(np.uint16)


def interleave(values: np.ndarray) -> np.ndarray:
    """The rows of q and k as llama.cpp's converter orders them."""
    shaped = values.reshape(HEADS, 2, ROWS // HEADS // 2, COLUMNS)
    return shaped.swapaxes(1, 2).reshape(ROWS, COLUMNS)


COPIES = {
    "bf16": ("BF16", to_bf16),
    "fp16": ("F16", lambda values: values.astype(np.float16)),
    "fp64": ("F64", lambda values: values.astype(np.float64)),
    "transposed": ("F32", lambda values: np.ascontiguousarray(values.T)),
    "transposed bf16": ("BF16", lambda values: to_bf16(np.ascontiguousarray(values.T))),
    "interleaved": ("F32", interleave),
    "interleaved fp16": ("F16", lambda values: interleave(values).astype(np.float16)),
}


def write(folder: Path, dtype: str, tensors: Weights) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    packed = {name: (dtype, array.shape, array.tobytes()) for name, array in tensors.items()}
    (folder / "model.safetensors").write_bytes(safetensors_bytes(packed))
    return folder


def write_copy(folder: Path, kind: str, source: Weights) -> Path:
    dtype, make = COPIES[kind]
    return write(folder, dtype, {f"other.{name}": make(array) for name, array in source.items()})


def levels(vault: LocalVault, repo: str) -> set[int]:
    digests = [p.digest for t in list_tensors(vault.resolve(repo).manifest) for p in t.pieces]
    return {place.level for place in vault.catalogue.locate(digests).values()}


def pulled(vault: LocalVault, repo: str, folder: Path) -> dict[str, bytes]:
    pull(vault, repo, folder)
    return read_folder(folder)


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_a_recipe(local: LocalVault, tmp_path: Path, kind: str):
    source = make_source()
    push(local, write(tmp_path / "source", "F32", source), "org/source")
    copy = write_copy(tmp_path / "copy", kind, source)
    result = push(local, copy, "org/copy")
    assert levels(local, "org/copy") == {DERIVED}
    assert result.saved > 0
    report = local.report()
    assert report.stages.derivations > 0
    assert report.logical - sum(asdict(report.stages).values()) == report.frames
    assert pulled(local, "org/copy", tmp_path / "pulled") == read_folder(copy)


def test_a_wider_copy_of_a_narrow_source_is_a_recipe(local: LocalVault, tmp_path: Path):
    words = {name: to_bf16(array) for name, array in make_source().items()}
    push(local, write(tmp_path / "source", "BF16", words), "org/source")
    wide = {n: (w.astype(np.uint32) << 16).view(np.float32) for n, w in words.items()}
    copy = write(tmp_path / "copy", "F32", wide)
    push(local, copy, "org/copy")
    assert levels(local, "org/copy") == {DERIVED}
    assert pulled(local, "org/copy", tmp_path / "pulled") == read_folder(copy)


def test_strangers_stay_as_they_are(local: LocalVault, tmp_path: Path):
    push(local, write(tmp_path / "source", "F32", make_source(1)), "org/source")
    push(local, write_copy(tmp_path / "copy", "bf16", make_source(2)), "org/copy")
    assert levels(local, "org/copy") == {0}


def test_a_copy_of_a_tune_is_computed_from_its_delta(local: LocalVault, tmp_path: Path):
    source = make_source()
    tuned = {name: array + np.float32(1e-6) for name, array in source.items()}
    push(local, write(tmp_path / "source", "F32", source), "org/source")
    push(local, write(tmp_path / "tune", "F32", tuned), "org/tune")
    copy = write_copy(tmp_path / "copy", "fp16", tuned)
    push(local, copy, "org/copy", base="org/tune")
    assert levels(local, "org/tune") == {1}
    assert levels(local, "org/copy") == {DERIVED}
    push(local, write_copy(tmp_path / "other", "bf16", tuned), "org/other", base="org/tune")
    local.delete_repo("org/source")
    local.delete_repo("org/tune")
    Collector(local, grace_seconds=0).run()
    assert pulled(local, "org/copy", tmp_path / "pulled") == read_folder(copy)


def test_copies_that_came_first_become_recipes(local: LocalVault, tmp_path: Path):
    source = make_source()
    copy = write_copy(tmp_path / "copy", "bf16", source)
    push(local, copy, "org/copy")
    push(local, write(tmp_path / "source", "F32", source), "org/source")
    cursor: int | None = 0
    saved = 0
    while cursor is not None:
        step = local.optimise(cursor)
        saved += step.before - step.after
        cursor = step.cursor
    assert DERIVED in levels(local, "org/copy") | levels(local, "org/source")
    assert saved > 0
    assert pulled(local, "org/copy", tmp_path / "pulled") == read_folder(copy)
    assert pulled(local, "org/source", tmp_path / "again") == read_folder(tmp_path / "source")


def test_recipes_outlive_their_sources_and_the_catalogue(local: LocalVault, tmp_path: Path):
    source = make_source()
    push(local, write(tmp_path / "source", "F32", source), "org/source")
    copy = write_copy(tmp_path / "copy", "transposed bf16", source)
    push(local, copy, "org/copy")
    local.delete_repo("org/source")
    Collector(local, grace_seconds=0).run()
    assert levels(local, "org/copy") == {DERIVED}
    rebuild_catalogue(local.backend, local.catalogue)
    assert levels(local, "org/copy") == {DERIVED}
    assert pulled(local, "org/copy", tmp_path / "pulled") == read_folder(copy)


def test_a_range_of_a_recipe_is_read_alone(local: LocalVault, tmp_path: Path):
    source = make_source()
    push(local, write(tmp_path / "source", "F32", source), "org/source")
    copy = write_copy(tmp_path / "copy", "transposed bf16", source)
    push(local, copy, "org/copy")
    whole = (copy / "model.safetensors").read_bytes()
    for start, stop in ((500, 501), (1000, 30_000), (len(whole) - 7, len(whole))):
        _, _, pieces = local.read_file("org/copy", "main", "model.safetensors", start, stop)
        assert b"".join(map(bytes, pieces)) == whole[start:stop]


def write_gguf(path: Path, kind: gguf.GGMLQuantizationType, values: np.ndarray) -> Path:
    """A quantised tensor, beside one that all quantisations of a model have in common."""
    path.parent.mkdir()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("scores", np.arange(3000, dtype=np.float32))
    writer.add_tensor("weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.parent


@pytest.mark.parametrize("sibling_first", [True, False])
def test_a_quantised_sibling_is_a_source(local: LocalVault, tmp_path: Path, sibling_first: bool):
    values = np.random.default_rng(5).normal(0, 0.05, (128, 256)).astype(np.float32)
    fine, coarse = gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0
    folders = {
        "org/fine": write_gguf(tmp_path / "fine" / "model.gguf", fine, values),
        "org/coarse": write_gguf(tmp_path / "coarse" / "model.gguf", coarse, values),
    }
    for repo in list(folders)[:: 1 if sibling_first else -1]:
        push(local, folders[repo], repo)
    if not sibling_first:
        local.optimise()
    assert levels(local, "org/coarse") == {0, DERIVED}
    assert levels(local, "org/fine") == {0}
    assert pulled(local, "org/coarse", tmp_path / "pulled") == read_folder(folders["org/coarse"])


def test_weights_with_an_adapter_come_before_all_that_they_are_made_of(
    local: LocalVault, tmp_path: Path
):
    rng = np.random.default_rng(3)
    words = to_bf16(rng.normal(0, 0.05, (ROWS, COLUMNS)).astype(np.float32))
    base = (words.astype(np.uint32) << 16).view(np.float32)
    sides = {
        "w.lora_A.weight": rng.normal(0, 0.05, (16, COLUMNS)).astype(np.float32),
        "w.lora_B.weight": rng.normal(0, 0.02, (ROWS, 16)).astype(np.float32),
    }
    change = sides["w.lora_B.weight"] @ sides["w.lora_A.weight"]
    merged = write(tmp_path / "merged", "BF16", {"w": to_bf16(base + change)})
    adapter = write(tmp_path / "adapter", "F32", sides)
    (adapter / "README.md").write_text("---\nbase_model: org/base\n---\n")
    push(local, merged, "org/merged")
    push(local, adapter, "org/adapter")
    push(local, write(tmp_path / "base", "BF16", {"w": words}), "org/base")
    local.optimise()
    assert levels(local, "org/merged") == {DERIVED}
    assert levels(local, "org/base") == {0}
    assert pulled(local, "org/merged", tmp_path / "pulled") == read_folder(merged)
