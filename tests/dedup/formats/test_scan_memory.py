"""Files that have not changed since the last push are not read again; all others are."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from format_samples import make_arrays, make_onnx
from models import read_folder
from vaults import open_local

from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.history import PushResult
from weightvault.dedup.transfer.folders import scan_folder
from weightvault.dedup.transfer.folders import survey as module
from weightvault.dedup.transfer.folders.memory import ScanMemory
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push


class World:
    """A folder that is pushed, and the names of the files that each push reads."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.model = root / "m"
        self.model.mkdir()
        self.read: list[str] = []
        scan = scan_folder.scan_files

        def note(files: dict[str, Path], *more: object) -> object:
            self.read += files
            return scan(files, *more)  # pyright: ignore[reportArgumentType]

        patch.setattr(scan_folder, "scan_files", note)
        self.vault = open_local(root / "vault")

    def push(
        self, vault: LocalVault | None = None, repo: str = "o/r", *, anew: bool = False
    ) -> PushResult:
        self.read.clear()
        memory = ScanMemory(self.root / "memory", anew=anew)
        return push(vault or self.vault, self.model, repo, memory=memory)

    def check(self, repo: str = "o/r", vault: LocalVault | None = None) -> None:
        """Holds that what is stored is what the folder holds."""
        out = self.root / f"out-{len(list(self.root.iterdir()))}"
        pull(vault or self.vault, repo, out)
        assert read_folder(out) == read_folder(self.model)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # Files of tests are as new as can be.
    monkeypatch.setattr(module, "_SETTLED_NS", 0)
    made = World(tmp_path, monkeypatch)
    for name in ("a.json", "sub/b.json", "cut.safetensors"):
        (made.model / name).parent.mkdir(exist_ok=True)
        (made.model / name).write_text(name)
    yield made
    made.vault.close()


def test_only_what_changed_is_read(world: World):
    first = world.push()
    assert sorted(world.read) == ["a.json", "cut.safetensors", "sub/b.json"]
    again = world.push()
    assert world.read == []
    assert again.commit.id == first.commit.id
    assert again.warnings == first.warnings
    assert [each.path for each in again.warnings] == ["cut.safetensors"]
    (world.model / "a.json").write_text("A.JSON")
    (world.model / "new").write_text("n")
    (world.model / "sub" / "b.json").chmod(0o755)
    world.push()
    assert sorted(world.read) == ["a.json", "new", "sub/b.json"]
    world.check()
    (world.model / "new").unlink()
    assert world.push().files == 3
    assert world.read == []
    world.push(anew=True)
    assert len(world.read) == 3


def test_a_file_with_its_old_size_and_time_but_other_content_is_read(world: World):
    world.push()
    path = world.model / "a.json"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_text("A.json")
    os.utime(path, ns=times)
    world.push()
    assert world.read == ["a.json"]
    world.check()
    other = world.model / "other"
    other.write_text("b.JSON")
    os.utime(other, ns=times)
    other.replace(path)
    world.push()
    assert world.read == ["a.json"]
    world.check()


def test_what_has_just_changed_is_not_remembered(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_SETTLED_NS", 10**12)
    world.push()
    world.push()
    assert len(world.read) == 3


def test_another_vault_gets_all_of_it(world: World, tmp_path: Path):
    """What is remembered says what files are made of, not that a vault has it."""
    world.push()
    vault = open_local(tmp_path / "other")
    result = world.push(vault)
    assert len(world.read) == 3
    assert result.new_chunks == 3
    world.check(vault=vault)
    vault.close()
    world.push(repo="o/second")
    assert world.read == []
    world.check("o/second")


def test_a_neighbour_that_says_where_tensors_lie_is_heeded(world: World):
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(make_onnx(make_arrays(side=24)), world.model / "model.onnx", **options)
    index = (world.model / "model.onnx").read_bytes()
    (world.model / "model.onnx").unlink()
    world.push()
    (world.model / "model.onnx").write_bytes(index)
    world.push()
    assert sorted(world.read) == ["model.onnx", "weights.bin"]
    entry = world.vault.resolve("o/r").manifest.file("weights.bin")
    assert entry is not None
    assert next(entry.tensors, None) is not None
    world.push()
    assert world.read == []


@pytest.mark.parametrize("data", [b"", b"{}\n", b"no JSON\n", b'{"version":1}\n', None])
def test_a_damaged_memory_is_made_anew(world: World, data: bytes | None):
    world.push()
    (kept,) = (world.root / "memory").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    kept.write_bytes(kept.read_bytes()[:-3] if data is None else data)
    world.push()
    assert len(world.read) == 3
    world.push()
    assert world.read == []
    world.check()


def test_a_place_that_cannot_be_written_does_not_stop_a_push(world: World):
    (world.root / "memory").write_text("a file")
    world.push()
    world.check()
