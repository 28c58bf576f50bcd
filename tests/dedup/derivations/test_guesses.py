"""Quantised copies that are pushed beside their source become recipes, found by content."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from models import read_folder

from weightvault.benchmarks.derivations.copies import write_tensors
from weightvault.benchmarks.derivations.onnx_copies import MODELS, write_onnx
from weightvault.benchmarks.derivations.quantised import FORMATS, IN_BF16, Stored
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.repository.refs import Refs
from weightvault.dedup.similarity.sources import list_tensors
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.store.packs import DERIVED

# The last is cut where its queries, keys and values begin.
SHAPES = {"up": (512, 384), "down": (384, 256), "attn.qkv_proj": (512, 256)}
CHUNK_BYTES = 1 << 16
CODES = ("I8", "U8", "I32", "U32", "F8_E4M3")
SOURCES = {
    "BF16": [name for name in FORMATS if name in IN_BF16],
    "F32": [name for name in FORMATS if name not in IN_BF16],
}


def make_source(dtype: str) -> dict[str, np.ndarray]:
    """Weights as float32 that `dtype` holds exactly; their rows differ in size."""
    rng = np.random.default_rng(5)
    made = {}
    for name, shape in SHAPES.items():
        rows = np.exp(rng.normal(0, 0.2, (shape[0], 1)))
        values = (rng.normal(0, 0.03, shape) * rows).astype(np.float32)
        made[name] = values.astype(ml_dtypes.bfloat16).astype(np.float32)
        if dtype == "F32":
            made[name] = values
    return made


def write(folder: Path, tensors: Stored) -> Path:
    folder.mkdir(parents=True)
    write_tensors(folder / "model.safetensors", tensors)
    return folder


def write_source(folder: Path, dtype: str) -> Path:
    kind = ml_dtypes.bfloat16 if dtype == "BF16" else np.float32
    made = make_source(dtype)
    return write(
        folder, {f"{n}.weight": (dtype, values.astype(kind)) for n, values in made.items()}
    )


def write_copy(folder: Path, dtype: str, label: str) -> Path:
    """Returns a folder with a copy, whose tensors are not named as the source's."""
    stored: Stored = {}
    for name, values in make_source(dtype).items():
        made = FORMATS[label](values)
        stored |= {f"blocks.{name}{end}": each for end, each in made.items()}
    return write(folder, stored)


def write_model(folder: Path, label: str) -> Path:
    folder.mkdir()
    made = {name: MODELS[label](values) for name, values in make_source("F32").items()}
    write_onnx(folder / "model.onnx", made)
    return folder


def codes_levels(vault: LocalVault, repo: str) -> set[int]:
    """The levels of the frames of codes."""
    tensors = [t for t in list_tensors(vault.resolve(repo).manifest) if t.dtype in CODES]
    digests = [piece.digest for tensor in tensors for piece in tensor.pieces]
    return {place.level for place in vault.catalogue.locate(digests).values()}


def share_added(vault: LocalVault, folder: Path, repo: str) -> float:
    """Pushes a copy, and returns what it adds to the frames, as a share of it."""
    before = vault.report().frames
    push(vault, folder, repo)
    size = sum(file.stat().st_size for file in folder.iterdir())
    return (vault.report().frames - before) / size


@pytest.mark.parametrize("dtype", SOURCES)
def test_quantised_copies_are_recipes(local: LocalVault, tmp_path: Path, dtype: str):
    push(local, write_source(tmp_path / "source", dtype), "org/source")
    copies = {label: write_copy(tmp_path / label, dtype, label) for label in SOURCES[dtype]}
    if dtype == "F32":
        # Made of a bfloat16 copy that is not there.
        for label in ("int8 per row", "mlx 4bit"):
            copies[f"{label} of bf16"] = write_copy(tmp_path / f"of {label}", "BF16", label)
        copies |= {label: write_model(tmp_path / label, label) for label in MODELS}
    for label, copy in copies.items():
        repo = f"org/{label.replace(' ', '-')}"
        added = share_added(local, copy, repo)
        assert (label, codes_levels(local, repo)) == (label, {DERIVED})
        # Headers and manifests are some 2 % of so small files, scales up to 6 %.
        assert added < 0.08, label
        pull(local, repo, tmp_path / "pulled" / label)
        assert read_folder(tmp_path / "pulled" / label) == read_folder(copy)


def test_every_chunk_of_a_copy_has_the_scales_of_its_place(local: LocalVault, tmp_path: Path):
    source = write_source(tmp_path / "source", "F32")
    push(local, source, "org/source", chunk_bytes=CHUNK_BYTES)
    for label in ("fp8 per row", "fp8 per block", "bnb nf4", "gptq 4bit", "awq 4bit"):
        copy, repo = write_copy(tmp_path / label, "F32", label), f"org/{label.replace(' ', '-')}"
        push(local, copy, repo, base="org/source", chunk_bytes=CHUNK_BYTES)
        tensors = [t for t in list_tensors(local.resolve(repo).manifest) if t.dtype in CODES]
        assert any(len(tensor.pieces) > 1 for tensor in tensors)
        digests = [piece.digest for tensor in tensors for piece in tensor.pieces]
        places = local.catalogue.locate(digests).values()
        assert {(label, place.level) for place in places} == {(label, DERIVED)}
        # No more than names and parameters.
        assert all(place.frame_bytes < 1024 for place in places), label
        pull(local, repo, tmp_path / "pulled" / label)
        assert read_folder(tmp_path / "pulled" / label) == read_folder(copy)


def test_nothing_is_computed_from_what_its_owner_may_not_read(local: LocalVault, tmp_path: Path):
    local.share_bases("own")
    push(local, write_source(tmp_path / "source", "F32"), "ann/source")
    for repo, label in (
        ("bob/copy", "fp8 per row"),
        ("ann/copy", "bnb int8"),
        ("bob/other", "awq 4bit"),
    ):
        push(local, write_copy(tmp_path / repo, "F32", label), repo)
        is_computed = codes_levels(local, repo) == {DERIVED}
        assert is_computed == repo.startswith("ann/"), repo
        assert is_computed or DERIVED not in codes_levels(local, repo), repo
    Refs(local).set_public("ann/source", True)
    push(local, write_copy(tmp_path / "third", "F32", "bnb nf4"), "bob/third")
    assert codes_levels(local, "bob/third") == {DERIVED}


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_companions_of_any_content_do_no_harm(local: LocalVault, tmp_path: Path):
    rng = np.random.default_rng(3)
    values = rng.normal(0, 0.03, (256, 256)).astype(np.float32)
    odd = values.copy()
    odd[:, ::7] = np.nan
    odd[3] = np.inf
    sources = {"a": ("F32", values), "b": ("F32", odd), "c": ("F32", np.zeros_like(values))}
    push(local, write(tmp_path / "source", sources), "org/source")
    codes = (values * 1000).clip(-127, 127).astype(np.int8)
    flat = codes.view(np.uint8).reshape(-1, 1)
    state = np.frombuffer(b'{"shape": [1e999, "x"], "blocksize": -1}', np.uint8)
    strange = np.array([np.nan, np.inf, 0, -1] * 64, np.float32)
    copy = {
        "a": ("I8", codes),
        "a_scale": ("F32", strange),
        "a_zero": ("I8", codes[0]),
        "b": ("U8", codes.view(np.uint8)),
        "b_scale": ("F32", np.zeros(1, np.float32)),
        "d": ("I32", codes.view(np.int32)),
        "d_scale": ("F16", strange[:128].astype(np.float16)),
        "e": ("F8_E4M3", codes.view(ml_dtypes.float8_e4m3fn)),
        "e_scale": ("F32", strange),
        "n": ("U8", flat),
        "n.quant_state.bitsandbytes__nf4": ("U8", state),
        "n.absmax": ("F32", rng.normal(0, 1, 2048).astype(np.float32)),
        "m.weight": ("U32", codes.view(np.uint32)),
        "m.scales": ("F32", np.full((256, 8), np.inf, np.float32)),
        "m.biases": ("F32", np.full((256, 8), np.nan, np.float32)),
        "s": ("U8", flat.reshape(*[1] * 30, -1)),
    }
    push(local, write(tmp_path / "copy", copy), "org/copy", base="org/source")
    pull(local, "org/copy", tmp_path / "pulled")
    assert read_folder(tmp_path / "pulled") == read_folder(tmp_path / "copy")
