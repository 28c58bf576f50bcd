"""Each copy is computed from the tensor that it was made of, and what has no source from none."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from models import safetensors_bytes

from weightvault.dedup.derivations.operations.gguf.blocks import quantise
from weightvault.dedup.derivations.operations.gguf.layout import find_geometry
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.similarity.sources import list_tensors
from weightvault.dedup.transfer.push import push

SHAPE = (80, 256)


def draw(seed: int, tuned: bool = False) -> np.ndarray:
    values = np.random.default_rng(seed).standard_t(6, SHAPE) * 0.02
    return (values + tuned * np.random.default_rng(100).normal(0, 2e-4, SHAPE)).astype(np.float32)


def send(vault: LocalVault, folder: Path, dtype: str, values: np.ndarray) -> None:
    folder.mkdir()
    packed = safetensors_bytes({"w": (dtype, values.shape, values.tobytes())})
    (folder / "model.safetensors").write_bytes(packed)
    push(vault, folder, f"org/{folder.name}")


def send_quantised(vault: LocalVault, folder: Path, kind: str, values: np.ndarray) -> None:
    folder.mkdir()
    geometry = find_geometry(kind)
    blocks = np.empty(values.size // geometry.elements * geometry.block_bytes, np.uint8)
    quantise(kind, values.reshape(-1), blocks)
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    dtype = gguf.GGMLQuantizationType[kind]
    writer.add_tensor("other", blocks.reshape(len(values), -1), raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    push(vault, folder, f"org/{folder.name}")


def place_of(vault: LocalVault, repo: str):
    (tensor,) = list_tensors(vault.resolve(f"org/{repo}").manifest)
    digest = tensor.pieces[0].digest
    return vault.catalogue.locate([digest])[digest]


@pytest.fixture
def vault(local: LocalVault, tmp_path: Path) -> LocalVault:
    """Ten tensors, and a tune of each, a delta on it."""
    for seed in range(10):
        send(local, tmp_path / f"base-{seed}", "F32", draw(seed))
        send(local, tmp_path / f"tune-{seed}", "F32", draw(seed, tuned=True))
        assert place_of(local, f"tune-{seed}").base == place_of(local, f"base-{seed}").digest
    return local


def test_the_right_source_is_found(vault: LocalVault, tmp_path: Path):
    sources: dict[str, str] = {}
    for seed in range(10):
        source, values = f"base-{seed}", draw(seed)
        if seed % 2:
            source, values = f"tune-{seed}", draw(seed, tuned=True)
        sources |= {f"{kind}-{seed}": source for kind in ("half", "turned", "coarse", "pruned")}
        send(vault, tmp_path / f"half-{seed}", "F16", values.astype(np.float16))
        send(vault, tmp_path / f"turned-{seed}", "F16", values.T.astype(np.float16))
        # A quarter of its sketch tells nothing.
        pruned = np.where(abs(values) < np.median(abs(values)), np.float32(0), values)
        send(vault, tmp_path / f"pruned-{seed}", "F32", pruned)
        # A tenth of its sketch tells something else, so that often no band is the same.
        send_quantised(vault, tmp_path / f"coarse-{seed}", "Q2_K", values)
        send(vault, tmp_path / f"unrelated-{seed}", "F16", draw(seed + 50).astype(np.float16))
    for copy, source in sources.items():
        assert place_of(vault, copy).inputs == (place_of(vault, source).digest,), copy
    assert {place_of(vault, f"unrelated-{seed}").inputs for seed in range(10)} == {()}
