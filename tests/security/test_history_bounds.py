"""A listing that looks through a repo's history does a second's work, however much there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from models import safetensors_bytes
from vaults import open_local

from weightvault.api.hub.reading import trees
from weightvault.api.server.app import create_app
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.transfer.push import push

_COMMITS = 8
_TENSORS = 400


def test_files_of_many_tensors_count_as_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Few files, each of thousands of tensors, are no cheaper to look through than many files."""
    vault = open_local(tmp_path / "vault")
    model = tmp_path / "model"
    model.mkdir()
    names = {f"t{i}": ("U8", (4,), np.int32(i).tobytes()) for i in range(_TENSORS)}
    (model / "model.safetensors").write_bytes(safetensors_bytes(names))
    for number in range(_COMMITS):
        (model / "notes.txt").write_text(str(number))
        push(vault, model, "org/model")
    loaded = []

    def load(self: LocalVault, name: str):
        loaded.append(name)
        return true_load(self, name)

    with TestClient(create_app(vault), base_url="http://hub") as web:
        path = "/api/models/org/model/tree/main"
        monkeypatch.setattr(trees, "_MOST_LOOKED_AT", 3 * _TENSORS // 10)
        true_load = LocalVault.load_manifest
        monkeypatch.setattr(LocalVault, "load_manifest", load)
        web.get(path).raise_for_status()
        alone = len(loaded)
        listed = web.get(path, params={"expand": True}).raise_for_status().json()
    vault.close()
    assert {line["path"] for line in listed} == {"model.safetensors", "notes.txt"}
    assert all(line["lastCommit"]["id"] for line in listed)
    # As many as reach the bound; the one beyond it was begun before.
    assert len(loaded) - 2 * alone <= 4
