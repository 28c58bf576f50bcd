"""What `push` says of the folder that it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one of each: stored, left out, odd, broken, and secret."""
    root = tmp_path / "m"
    (root / ".git").mkdir(parents=True)
    (root / ".git" / "config").write_text("x")
    (root / "config.json").write_text("{}")
    (root / "notes.tmp").write_text("n")
    (root / "model.safetensors").write_bytes(b"cut short")
    (root / "gone").symlink_to("nowhere")
    (root / ".env").write_text("TOKEN=1")
    return root


def paths(document: dict, group: str) -> list[str]:
    return [each["path"] for each in document[group]]


def test_a_dry_run_shows_all_and_stores_nothing(run, tmp_path: Path, folder: Path) -> None:
    push = ("--vault", tmp_path / "v", "push", folder, "o/r", "--exclude", "*.tmp")
    result = run(*push, "--dry-run", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 4
    assert paths(document, "files") == ["config.json", "model.safetensors"]
    assert document["size"] == 11
    assert paths(document, "left_out") == [".git", "notes.tmp"]
    assert paths(document, "broken") == ["gone"]
    assert paths(document, "secrets") == [".env"]
    assert paths(document, "warnings") == ["model.safetensors"]
    text = run(*push, "--dry-run").stdout
    for word in ("2 files", ".git", "notes.tmp", "gone", "nowhere", ".env", "opaque"):
        assert word in text
    assert run(*push, "--dry-run", "--skip-broken", "--include", ".env").exit_code == 0
    assert not (tmp_path / "v").exists()


def test_a_push_names_what_it_leaves_out(run, tmp_path: Path, folder: Path) -> None:
    push = ("--vault", tmp_path / "v", "push", folder, "o/r")
    result = run(*push)
    assert result.exit_code == 4
    assert "gone" in result.stderr
    assert ".env" in result.stderr
    result = run(*push, "--skip-broken", "--exclude", ".env")
    assert result.exit_code == 0, result.output
    for line in ("left out .git: ", "left out gone: ", "left out 3 in all", "warning: model"):
        assert line in result.stdout
    document = json.loads(run(*push, "--skip-broken", "--include", ".env", "--json").stdout)
    assert document["files"] == 4
    assert paths(document, "left_out") == [".git", "gone"]
    assert paths(document, "warnings") == ["model.safetensors"]


def test_the_vault_and_its_catalogue_are_left_out(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("model.bin").write_bytes(b"m")
    # The first push makes them, after it has looked at what there is.
    for there in (set[str](), {"v", "index.sqlite"}, {"v", "index.sqlite"}):
        catalogue = ("--catalogue", "sqlite:///index.sqlite")
        result = run("--vault", "v", *catalogue, "push", ".", "o/r", "--json")
        document = json.loads(result.stdout)
        assert document["files"] == 1, document
        assert there <= set(paths(document, "left_out"))
