"""Hostile files are stored and given back like any other."""

import json
from pathlib import Path

from hostile_files import list_hostile
from models import read_folder
from vaults import open_local

from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push


def test_whatever_was_made_to_harm_comes_back(tmp_path: Path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, data in list_hostile():
        (folder / name).write_bytes(data)
    vault = open_local(tmp_path / "vault")
    push(vault, folder, "org/hostile")
    pull(vault, "org/hostile", tmp_path / "out")
    vault.close()
    assert len(read_folder(folder)) > 80
    assert read_folder(tmp_path / "out") == read_folder(folder)


def test_a_broken_safetensors_file_comes_back(tmp_path: Path):
    """By its own name it comes with a warning: nobody means to store a download cut short."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(20)
    vault = open_local(tmp_path / "vault")
    for name in ("model.safetensors", "model.safetensors.part"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(data)
    (warning,) = push(vault, tmp_path / "model.safetensors", "org/a").warnings
    assert warning.path == "model.safetensors"
    assert "tensor 'a' lies at" in warning.reason
    assert push(vault, tmp_path / "model.safetensors.part", "org/b").warnings == ()
    for repo in ("org/a", "org/b"):
        pull(vault, repo, tmp_path / "out")
    vault.close()
    for name in ("model.safetensors", "model.safetensors.part"):
        assert (tmp_path / "out" / name).read_bytes() == data
