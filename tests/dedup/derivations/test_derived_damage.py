"""Damage to derived frames and to what they are computed from: mended, or named in full."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from damage import entries_of, flip, named, repair, scrub, unreadable
from models import read_folder, safetensors_bytes

from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.similarity.sources import list_tensors
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.store.packs import DERIVED

SHAPE = (96, 160)


def make_weights() -> np.ndarray:
    return np.random.default_rng(3).normal(0, 0.05, SHAPE).astype(np.float32)


def write(folder: Path, dtype: str, values: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    packed = {"w": (dtype, values.shape, values.tobytes())}
    (folder / "model.safetensors").write_bytes(safetensors_bytes(packed))
    return folder


@pytest.fixture
def vault(local: LocalVault, tmp_path: Path) -> LocalVault:
    """A source, and a transposed copy in fewer bits that is nothing but a recipe."""
    values = make_weights()
    push(local, write(tmp_path / "source", "F32", values), "org/source")
    copy = np.ascontiguousarray(values.T).astype(np.float16)
    push(local, write(tmp_path / "copy", "F16", copy), "org/copy")
    # What the copy was stored as at first would be a second copy.
    for _ in range(2):
        Collector(local, grace_seconds=0, dead_share=0.001).run()
    return local


def find_frame(vault: LocalVault, root: Path, repo: str) -> tuple[Path, int, int]:
    """The pack of a repo's tensor, where its frame begins there, and its level."""
    tensor = next(list_tensors(vault.resolve(repo).manifest))
    digest = tensor.pieces[0].digest
    place = vault.catalogue.locate([digest])[digest]
    path = root / "vault/objects/packs" / place.pack[:2] / place.pack
    assert place.digest in {entry.digest for entry in entries_of(path)}
    return path, place.offset, place.level


# The magic, the recipe's operation (behind 48 bytes, the number and digest of the inputs, and the
# length of the recipe), the block table.
@pytest.mark.parametrize("at", [0, 48 + 1 + 32 + 4, 48 + 1 + 32 + 40])
def test_a_derived_frame_is_computed_again(vault: LocalVault, tmp_path: Path, at: int):
    path, offset, level = find_frame(vault, tmp_path, "org/copy")
    assert level == DERIVED
    flip(path, offset + at)
    assert named(scrub(vault)) == {"org/copy@main:model.safetensors"}
    assert repair(vault, dry_run=True).lost == []
    assert unreadable(vault) == {"org/copy@main:model.safetensors"}
    assert repair(vault).lost == []
    assert find_frame(vault, tmp_path, "org/copy")[2] == DERIVED
    pull(vault, "org/copy", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(tmp_path / "copy")
    Collector(vault, grace_seconds=0).run()
    assert scrub(vault) == []
    assert vault.check().problems == ()


def test_a_damaged_input_names_what_is_computed_from_it(vault: LocalVault, tmp_path: Path):
    path, offset, _ = find_frame(vault, tmp_path, "org/source")
    flip(path, offset + 1000)
    both = {"org/source@main:model.safetensors", "org/copy@main:model.safetensors"}
    assert named(scrub(vault)) == both == unreadable(vault)
    assert named(repair(vault).lost) == both
    # A copy that is pushed again needs no input any more; the input brings back the rest.
    push(vault, tmp_path / "copy", "org/again")
    assert unreadable(vault) == {"org/source@main:model.safetensors"}
    push(vault, tmp_path / "source", "org/source")
    assert unreadable(vault) == set()
    Collector(vault, grace_seconds=0).run()
    assert scrub(vault) == []
    for repo in ("copy", "source"):
        pull(vault, f"org/{repo}", tmp_path / "out" / repo)
        assert read_folder(tmp_path / "out" / repo) == read_folder(tmp_path / repo)
