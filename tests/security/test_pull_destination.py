"""What lies in the folder of a pull leads no bytes out of it, and nothing there is lost."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from models import CARD, read_folder
from vaults import Wrapper, open_local

from weightvault.dedup.errors import VaultError
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push


def hold_model(vault: LocalVault, model: Path) -> None:
    (model / "sub/deep").mkdir(parents=True)
    (model / "sub/deep/notes.txt").write_text("theirs")
    push(vault, model, "org/m")


@pytest.mark.parametrize("where", ["sub", "sub/deep"])
def test_a_link_to_a_folder_is_not_followed(
    where: str, vault: LocalVault, model: Path, tmp_path: Path
):
    hold_model(vault, model)
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    dest = tmp_path / "dest"
    (dest / where).parent.mkdir(parents=True)
    (dest / where).symlink_to(outside, target_is_directory=True)
    with pytest.raises(VaultError, match="is a link") as caught:
        pull(vault, "org/m", dest)
    assert str(dest / where) in caught.value.message
    assert read_folder(outside) == {}


def test_a_link_to_a_file_is_replaced(vault: LocalVault, model: Path, tmp_path: Path):
    hold_model(vault, model)
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    right = tmp_path / "right.txt"
    right.write_text(CARD)
    dest = tmp_path / "dest"
    (dest / "sub/deep").mkdir(parents=True)
    (dest / "sub/deep/notes.txt").symlink_to(mine)
    # Even one to the right bytes: they are somebody else's to change.
    (dest / "README.md").symlink_to(right)
    (dest / "config.json").symlink_to(tmp_path / "absent")
    pull(vault, "org/m", dest)
    assert mine.read_text() == "mine"
    assert not any(path.is_symlink() for path in dest.rglob("*"))
    assert not (tmp_path / "absent").exists()
    assert read_folder(dest) == read_folder(model)


def test_a_hard_link_is_not_written_through(vault: LocalVault, model: Path, tmp_path: Path):
    hold_model(vault, model)
    mine, dest = tmp_path / "mine.txt", tmp_path / "dest"
    mine.write_text("mine")
    dest.mkdir()
    os.link(mine, dest / "README.md")
    pull(vault, "org/m", dest)
    assert mine.read_text() == "mine"
    assert read_folder(dest) == read_folder(model)


def test_a_pipe_stops_nothing(vault: LocalVault, model: Path, tmp_path: Path):
    hold_model(vault, model)
    dest = tmp_path / "dest"
    dest.mkdir()
    os.mkfifo(dest / "README.md")
    pull(vault, "org/m", dest)
    assert read_folder(dest) == read_folder(model)


def test_the_destination_may_be_a_link(vault: LocalVault, model: Path, tmp_path: Path):
    hold_model(vault, model)
    (tmp_path / "there").mkdir()
    (tmp_path / "dest").symlink_to(tmp_path / "there", target_is_directory=True)
    pull(vault, "org/m", tmp_path / "dest")
    assert read_folder(tmp_path / "there") == read_folder(model)


def old_temporary(vault: LocalVault, path: str) -> str:
    """The name that could be foreseen once."""
    entry = vault.resolve("org/m").manifest.file(path)
    assert entry is not None
    return f".weightvault-{entry.digest.hex()[:16]}.part"


def test_no_temporary_name_can_be_foreseen(vault: LocalVault, model: Path, tmp_path: Path):
    hold_model(vault, model)
    mine, dest = tmp_path / "mine.txt", tmp_path / "dest"
    mine.write_text("mine")
    dest.mkdir()
    planted = dest / old_temporary(vault, "README.md")
    planted.symlink_to(mine)
    pull(vault, "org/m", dest)
    assert mine.read_text() == "mine"
    assert planted.is_symlink()
    planted.unlink()
    assert read_folder(dest) == read_folder(model)


def test_a_file_of_the_repo_called_as_a_temporary_is_kept(
    vault: LocalVault, model: Path, tmp_path: Path
):
    hold_model(vault, model)
    (model / old_temporary(vault, "model.safetensors")).write_text("a file like any other")
    push(vault, model, "org/m")
    pull(vault, "org/m", tmp_path / "dest")
    assert read_folder(tmp_path / "dest") == read_folder(model)


def test_a_link_for_the_folder_of_temporaries(vault: LocalVault, model: Path, tmp_path: Path):
    hold_model(vault, model)
    outside, dest = tmp_path / "outside", tmp_path / "dest"
    outside.mkdir()
    dest.mkdir()
    (dest / ".weightvault").symlink_to(outside, target_is_directory=True)
    with pytest.raises(VaultError, match="is a link"):
        pull(vault, "org/m", dest)
    assert read_folder(outside) == {}


def test_leftovers_go_and_other_things_stay(vault: LocalVault, model: Path, tmp_path: Path):
    hold_model(vault, model)
    kept = tmp_path / "dest/.weightvault"
    kept.mkdir(parents=True)
    (kept / ("0" * 32)).write_text("of a pull that was killed")
    (kept / "mine.txt").write_text("mine")
    pull(vault, "org/m", tmp_path / "dest")
    assert read_folder(kept) == {"mine.txt": b"mine"}
    (kept / "mine.txt").unlink()
    (tmp_path / "dest/README.md").unlink()
    pull(vault, "org/m", tmp_path / "dest")
    assert not kept.exists()


def test_pulls_into_one_folder_leave_each_other_alone(
    vault: LocalVault, model: Path, tmp_path: Path
):
    hold_model(vault, model)
    dest = tmp_path / "dest"
    folder = dest / ".weightvault"
    folder.mkdir(parents=True)
    other = folder / ("a" * 32)
    other.write_text("of a pull that goes on")
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    try:
        pull(vault, "org/m", dest)
    finally:
        os.close(handle)
    assert other.exists()
    failures: list[BaseException] = []

    def repeat() -> None:
        try:
            for _ in range(10):
                (dest / "README.md").unlink(missing_ok=True)
                pull(vault, "org/m", dest)
        except BaseException as error:
            # One may remove the file that the other has just counted.
            if "not there as they were written" not in str(error):
                failures.append(error)

    threads = [threading.Thread(target=repeat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    pull(vault, "org/m", dest)
    assert read_folder(dest) == read_folder(model)


class Meddling(Wrapper):
    """Does something before a pack is read."""

    def __init__(self, inner) -> None:
        super().__init__(inner)
        self.act: Callable[[], object] = lambda: None

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        if key.startswith("packs/"):
            self.act()
        return self.inner.get(key, start, stop)


def test_a_file_that_disappears_meanwhile_is_told(model: Path, tmp_path: Path):
    meddling: list[Meddling] = []

    def wrap(inner):
        meddling.append(Meddling(inner))
        return meddling[0]

    vault = open_local(tmp_path / "meddled", wrap)
    push(vault, model, "org/m")
    dest = tmp_path / "dest"
    pull(vault, "org/m", dest)
    (dest / "model.safetensors").unlink()
    meddling[0].act = lambda: (dest / "README.md").unlink(missing_ok=True)
    with pytest.raises(VaultError, match="not there as they were written") as caught:
        pull(vault, "org/m", dest)
    assert "README.md" in caught.value.message
    vault.close()
