"""Quantised models over HTTP: what dedup knows of their dtypes, server and client know too."""

from pathlib import Path

import gguf
import numpy as np
from models import read_folder


def write_gguf(path: Path, seed: int) -> None:
    """Writes a GGUF file of two quantised tensors."""
    values = np.random.default_rng(seed).normal(0, 1, (256, 256)).astype(np.float32)
    writer = gguf.GGUFWriter(path, "llama")
    for kind in (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0):
        writer.add_tensor(kind.name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_quantised_model_goes_in_and_comes_back(run, live: str, tmp_path: Path):
    for seed in (1, 2):
        folder = tmp_path / f"in {seed}"
        folder.mkdir()
        write_gguf(folder / "model.gguf", seed)
        assert run("--vault", live, "push", folder, f"org/m{seed}").exit_code == 0
        assert run("--vault", live, "pull", f"org/m{seed}", tmp_path / f"out {seed}").exit_code == 0
        assert read_folder(tmp_path / f"out {seed}") == read_folder(folder)
    tensors = run("--vault", live, "info", "org/m1", "--json")
    assert '"tensors": 2' in tensors.stdout
