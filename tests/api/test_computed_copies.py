"""Copies that are stored as recipes, over HTTP: clients need neither recipes nor sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from models import read_folder, safetensors_bytes

from weightvault.api.client.http_vault import HttpVault
from weightvault.codecs.frame import parse_header
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.similarity.sources import list_tensors
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.store.packs import DERIVED

SHAPE = (128, 160)


def write(folder: Path, dtype: str, values: np.ndarray) -> Path:
    folder.mkdir()
    packed: dict[str, tuple[str, tuple[int, ...], bytes]] = {}
    packed["weight"] = dtype, SHAPE, values.tobytes()
    (folder / "model.safetensors").write_bytes(safetensors_bytes(packed))
    return folder


def test_a_copy_is_sent_standalone(local: LocalVault, remote: HttpVault, tmp_path: Path):
    values = np.random.default_rng(1).normal(0, 0.05, SHAPE).astype(np.float32)
    push(local, write(tmp_path / "source", "F32", values), "org/source")
    copy = write(tmp_path / "copy", "F16", values.astype(np.float16))
    push(local, copy, "org/copy")
    (tensor,) = list_tensors(local.resolve("org/copy").manifest)
    digest = tensor.pieces[0].digest
    assert local.catalogue.locate([digest])[digest].level == DERIVED

    (frame,) = remote.read_frames("org/copy", "main", [digest])
    assert parse_header(frame).inputs == ()
    assert len(frame) <= 2 * values.size
    pull(remote, "org/copy", tmp_path / "pulled")
    assert read_folder(tmp_path / "pulled") == read_folder(copy)
