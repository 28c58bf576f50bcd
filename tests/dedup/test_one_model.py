"""One model in many files is stored once, and every file comes back."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from format_samples import WRITERS, Arrays, make_arrays, safetensors_of
from models import read_folder

from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    """18 MB of weights: frames and manifests of a small model weigh more than those of a real."""
    return make_arrays(side=768)


def push_file(vault: LocalVault, folder: Path, name: str, data: bytes) -> int:
    """Pushes a folder with one file in it, pulls it back, and returns the bytes in the store."""
    (folder / "in" / name).mkdir(parents=True)
    (folder / "in" / name / name).write_bytes(data)
    push(vault, folder / "in" / name, f"org/{name}")
    pull(vault, f"org/{name}", folder / "out" / name)
    back = (folder / "out" / name / name).read_bytes()
    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
    return vault.report().stored


def test_other_formats_add_next_to_nothing(local: LocalVault, tmp_path: Path, arrays: Arrays):
    alone = push_file(local, tmp_path, "model.safetensors", safetensors_of(arrays))
    for name in ("model.pt", "model.npz", "model.onnx", "model.gguf"):
        stored = push_file(local, tmp_path, name, WRITERS[name](arrays))
    assert stored <= 1.02 * alone


@pytest.mark.parametrize("name", ["legacy.bin", "model.h5", "flax_model.msgpack"])
def test_so_do_these(local: LocalVault, tmp_path: Path, arrays: Arrays, name: str):
    alone = push_file(local, tmp_path, "model.safetensors", safetensors_of(arrays))
    assert push_file(local, tmp_path, name, WRITERS[name](arrays)) <= 1.005 * alone


def test_shards_of_any_number_are_stored_once(local: LocalVault, tmp_path: Path, arrays: Arrays):
    alone = push_file(local, tmp_path, "model.safetensors", safetensors_of(arrays))
    names = list(arrays)
    for count in (2, 5):
        folder = tmp_path / f"{count} shards"
        folder.mkdir()
        for i in range(count):
            shard = {name: arrays[name] for name in names[i::count]}
            (folder / f"model-{i}.safetensors").write_bytes(safetensors_of(shard))
        index = {name: f"model-{i % count}.safetensors" for i, name in enumerate(names)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
        push(local, folder, f"org/shards-{count}")
        pull(local, f"org/shards-{count}", tmp_path / f"back {count}")
        assert read_folder(tmp_path / f"back {count}") == read_folder(folder)
    assert local.report().stored <= 1.01 * alone


def test_an_edited_unknown_file_shares_what_was_not_edited(local: LocalVault, tmp_path: Path):
    data = np.random.default_rng(0).bytes(4 << 20)
    alone = push_file(local, tmp_path, "first.bin", data)
    edited = data[:1_000_000] + b"a few bytes more" + data[1_000_000:3_000_000] + data[3_000_100:]
    assert push_file(local, tmp_path, "second.bin", edited) <= 1.15 * alone


def test_a_broken_file_of_every_format_comes_back(local: LocalVault, tmp_path: Path):
    small = make_arrays(side=64)
    for name, write in WRITERS.items():
        if name != "model.safetensors":
            data = bytearray(write(small))
            data[len(data) // 3 : len(data) // 3 + 40] = bytes(40)
            push_file(local, tmp_path, f"changed {name}".replace(" ", "-"), bytes(data))
            push_file(local, tmp_path, f"short {name}".replace(" ", "-"), bytes(data[:-500]))
