"""A push of what has not changed opens no vault; any other does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vaults import open_local

from weightvault.api import config
from weightvault.dedup.transfer.folders import survey
from weightvault.dedup.transfer.push import push
from weightvault.store import folder_state


class World:
    """A folder and a vault, and how often the vault was opened for a push."""

    def __init__(self, root: Path, run: Callable[..., Any]) -> None:
        self.root, self.vault, self.model, self._run = root, root / "v", root / "m", run
        self.opened = 0

    def push(self, *options: str, repo: str = "o/r") -> dict[str, Any]:
        self.opened = 0
        words = ("--vault", self.vault, "push", self.model, repo, "--json", *options)
        result = self._run(*words)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
def world(tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch) -> World:
    # Files of tests are as new as can be.
    monkeypatch.setattr(survey, "_SETTLED_NS", 0)
    made = World(tmp_path, run)
    made.model.mkdir()
    (made.model / "a.json").write_text("{}")
    (made.model / "cut.safetensors").write_bytes(b"cut short")
    (made.model / ".DS_Store").write_bytes(b"d")
    plain = config.open_vault

    def note(*given: Any, **named: Any) -> Any:
        made.opened += 1
        return plain(*given, **named)

    monkeypatch.setattr(config, "open_vault", note)
    return made


def same(first: dict[str, Any], again: dict[str, Any]) -> bool:
    """Holds that the answers say the same of a folder of which nothing was new."""
    known = first["new_chunks"] + first["known_chunks"]
    told = {"new_chunks": 0, "known_chunks": known, "sent": 0, "saved": 0}
    return first | told | {"seconds": again["seconds"]} == again


def test_what_has_not_changed_is_answered_alike_without_the_vault(world: World):
    first = world.push()
    assert world.opened == 1
    again = world.push()
    assert world.opened == 0
    assert same(first, again)
    assert [each["path"] for each in again["warnings"]] == ["cut.safetensors"]
    assert [each["path"] for each in again["left_out"]] == [".DS_Store"]


def edit(world: World) -> None:
    (world.model / "a.json").write_text("[]")


def edit_keeping_times(world: World) -> None:
    path = world.model / "a.json"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_text("[]")
    os.utime(path, ns=times)


def add(world: World) -> None:
    (world.model / "b").write_text("b")


def remove(world: World) -> None:
    (world.model / "a.json").unlink()


def rename(world: World) -> None:
    (world.model / "a.json").rename(world.model / "c.json")


def make_executable(world: World) -> None:
    (world.model / "a.json").chmod(0o755)


@pytest.mark.parametrize("change", [edit, edit_keeping_times, add, remove, rename, make_executable])
def test_a_change_of_the_folder_is_pushed(world: World, change: Callable[[World], None]):
    first = world.push()
    change(world)
    again = world.push()
    assert world.opened == 1
    assert again["commit"]["id"] != first["commit"]["id"]


def push_another(world: World) -> None:
    other = world.root / "other"
    other.mkdir()
    (other / "a.json").write_text("7")
    vault = open_local(world.vault)
    push(vault, other, "o/r")
    vault.close()


def push_by_another_catalogue(world: World) -> None:
    """As another machine does that has the folder mounted, with a database of its own."""
    other = world.root / "other"
    other.mkdir()
    (other / "a.json").write_text("8")
    database = f"sqlite:///{world.root / 'second.sqlite'}"
    vault = config.open_local_vault(str(world.vault), database)
    push(vault, other, "o/r")
    vault.close()


def delete(world: World) -> None:
    vault = open_local(world.vault)
    vault.delete_repo("o/r")
    vault.close()


@pytest.mark.parametrize("change", [push_another, push_by_another_catalogue, delete])
def test_a_change_of_the_vault_is_noticed(world: World, change: Callable[[World], None]):
    first = world.push()
    change(world)
    again = world.push()
    assert world.opened == 1
    assert again["commit"]["id"] != first["commit"]["id"]
    vault = open_local(world.vault)
    assert vault.resolve("o/r").commit.id == again["commit"]["id"]
    vault.close()


def test_a_manifest_that_is_gone_is_put_back(world: World):
    first = world.push()
    (lost,) = (world.vault / "objects" / "manifests").rglob(first["commit"]["manifest"])
    lost.unlink()
    world.push()
    assert world.opened == 1
    assert lost.exists()


def test_another_repo_branch_base_or_tag_is_another_push(world: World):
    world.push()
    for options in (["--revision", "b"], ["--base", "o/r"], ["--tag", "t"], ["--rescan"]):
        world.push(*options)
        assert world.opened == 1, options
    world.push(repo="o/second")
    assert world.opened == 1


def test_what_has_just_changed_is_not_taken_for_unchanged(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(survey, "_SETTLED_NS", 10**12)
    world.push()
    world.push()
    assert world.opened == 1


def test_nothing_is_said_of_a_database_that_changes_now(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.push()
    vault = config.find_folder(str(world.vault))
    assert vault is not None
    assert vault.state() == vault.state() is not None
    monkeypatch.setattr(folder_state, "_TICK_NS", 10**7)
    (world.vault / "catalogue.sqlite").touch()
    state = vault.state()
    # It waits for a tick: whatever is written after that has another time.
    assert state is not None
    (world.vault / "catalogue.sqlite").touch()
    assert vault.state() != state


def test_others_who_can_read_a_vault_are_told_of_each_time(world: World, run):
    world.push()
    os.chmod(world.root, 0o755)
    os.chmod(world.vault, 0o755)
    os.chmod(world.vault / "objects", 0o755)
    result = run("--vault", world.vault, "push", world.model, "o/r")
    assert "others on this machine can read" in result.stderr


def test_a_damaged_note_is_none(world: World):
    world.push()
    notes = Path(os.environ["XDG_CACHE_HOME"], "weightvault", "pushed")
    for note in notes.iterdir():
        note.write_bytes(note.read_bytes()[:-9])
    world.push()
    assert world.opened == 1
