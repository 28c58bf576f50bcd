"""Fused projections share what they hold with files that keep the projections apart."""

from pathlib import Path

import numpy as np
import pytest
from models import make_weights, read_folder, tune, write_model

from weightvault.dedup.formats.cutting.fused import MIN_PART_BYTES, find_parts
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.files.segments import Tensor
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push

# Grouped queries: half as many keys and values as queries, as in Llama 3.
APART = {
    "layers.0.self_attn.k_proj.weight": (64, 128),
    "layers.0.self_attn.q_proj.weight": (128, 128),
    "layers.0.self_attn.v_proj.weight": (64, 128),
    "layers.0.mlp.gate_proj.weight": (320, 128),
    "layers.0.mlp.up_proj.weight": (320, 128),
}


def fuse(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same weights as Phi-3 and vLLM hold them."""
    layer = "layers.0"
    qkv = [weights[f"{layer}.self_attn.{name}_proj.weight"] for name in "qkv"]
    gate_up = [weights[f"{layer}.mlp.{name}_proj.weight"] for name in ("gate", "up")]
    return {
        f"{layer}.self_attn.qkv_proj.weight": np.concatenate(qkv),
        f"{layer}.mlp.gate_up_proj.weight": np.concatenate(gate_up),
    }


def tensor(name: str, shape: tuple[int, ...], dtype: str = "BF16") -> Tensor:
    return Tensor(name, dtype, shape, 2 * int(np.prod(shape)))


@pytest.mark.parametrize(
    ("name", "shape", "rows"),
    [
        ("h.0.attn.Wqkv.weight", (768, 256), (256, 256, 256)),
        ("model.layers.0.mlp.gate_proj.weight", (768, 256), ()),
        ("model.layers.0.self_attn.qkv_proj.weight", (384, 256), (256, 64, 64)),
        ("blk.0.attn_qkv.weight", (384, 256), (256, 64, 64)),
        ("encoder.in_proj_weight", (768, 256), (256, 256, 256)),
        ("model.layers.0.mlp.gate_up_proj.weight", (688, 256), (344, 344)),
        ("model.layers.0.mlp.gate_up_proj.weight", (689, 256), ()),
        ("model.layers.0.mlp.up_proj.weight", (688, 256), ()),
        ("model.layers.0.self_attn.qkv_proj.weight", (385, 256), ()),
        ("model.layers.0.self_attn.qkv_proj.weight", (1000, 256), ()),
        ("h.0.attention.query_key_value.weight", (320, 256), ()),
        ("norm.qkv.weight", (768,), ()),
        ("tiny.qkv.weight", (192, 64), ()),
        ("nothing.gate_up.weight", (0, 0), ()),
        ("nothing.qkv.weight", (0, 0), ()),
    ],
)
def test_where_a_tensor_is_cut(name: str, shape: tuple[int, ...], rows: tuple[int, ...]):
    parts = find_parts(tensor(name, shape))
    assert parts == tuple(2 * shape[-1] * count for count in rows)
    assert all(part >= MIN_PART_BYTES for part in parts)


def test_an_unknown_dtype_of_odd_size_is_left_whole():
    assert find_parts(Tensor("x", "F4_NEW", (300, 100), 1_000_001)) == ()


def chunk_places(vault: LocalVault, repo: str) -> list[bytes | None]:
    chunks = [c for f in vault.resolve(repo).manifest.files for t in f.tensors for c in t.chunks]
    return [vault.catalogue.locate([c])[c].base for c in chunks]


@pytest.mark.parametrize("fused_first", [False, True], ids=["fused later", "fused first"])
def test_the_same_weights_fused_take_nothing(local: LocalVault, tmp_path: Path, fused_first: bool):
    weights = make_weights(1, APART)
    models = [write_model(tmp_path / "apart", weights), write_model(tmp_path / "f", fuse(weights))]
    first, second = reversed(models) if fused_first else models
    push(local, first, "org/first")
    result = push(local, second, "org/second")
    assert result.new_chunks == 1  # The file's header.
    for repo, model in (("org/first", first), ("org/second", second)):
        pull(local, repo, tmp_path / repo)
        assert read_folder(tmp_path / repo) == read_folder(model)


@pytest.mark.parametrize("fused_first", [False, True], ids=["fused later", "fused first"])
def test_a_tune_finds_its_base_across_the_layouts(
    local: LocalVault, tmp_path: Path, fused_first: bool
):
    weights = make_weights(1, APART)
    base, tuned = (fuse(weights), tune(weights, 2)) if fused_first else (weights, {})
    tuned = tuned or fuse(tune(weights, 2))
    first = push(local, write_model(tmp_path / "base", base), "org/base")
    model = write_model(tmp_path / "tuned", tuned)
    result = push(local, model, "org/tuned")
    assert None not in chunk_places(local, "org/tuned")
    assert result.sent < 0.65 * first.sent
    pull(local, "org/tuned", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(model)
    assert local.check().problems == ()


def test_a_range_of_a_fused_tensor_reads_across_its_parts(local: LocalVault, tmp_path: Path):
    fused = fuse(make_weights(1, APART))
    push(local, write_model(tmp_path / "m", fused), "org/m")
    name = "layers.0.self_attn.qkv_proj.weight"
    _, place, pieces = local.read_tensor("org/m", "main", name)
    assert len(place.chunks) == 3
    raw = b"".join(map(bytes, pieces))
    whole = (tmp_path / "m" / "model.safetensors").read_bytes()
    assert raw == whole[place.offset : place.offset + len(raw)]
    assert len(raw) == 2 * fused[name].size
    start, stop = place.offset + 30_000, place.offset + 50_000
    *_, pieces = local.read_file("org/m", "main", "model.safetensors", start, stop)
    assert b"".join(map(bytes, pieces)) == whole[start:stop]
