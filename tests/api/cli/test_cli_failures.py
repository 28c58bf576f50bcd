"""What the command says when something is wrong, where, and with which exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from weightvault.dedup.errors import error_classes
from weightvault.dedup.local_vault import LocalVault


@pytest.fixture
def folder(tmp_path: Path, run) -> str:
    """A vault in a folder with one repo."""
    (tmp_path / "note.txt").write_text("note")
    vault = str(tmp_path / "vault")
    assert run("--vault", vault, "push", tmp_path / "note.txt", "org/note").exit_code == 0
    return vault


def check_failure(result, status: int, *words: str) -> None:
    """Holds that a command failed as documented: stdout empty, what failed, then a hint."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    last = result.stderr[result.stderr.index("error: ") :]
    what, _, hint = last.partition("\n\n")
    assert hint.startswith("hint: "), result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in last
    assert what.count("\n") == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["psuh"], ["'psuh'", "did you mean `weightvault push`?"]),
        (["xyz"], ["'xyz'", "weightvault --help"]),
        (["ls", "--nothing"], ["--nothing", "weightvault ls --help"]),
        (["push"], ["PATH", "weightvault push --help"]),
        (["push", ".", "a/b", "--level", "huge"], ["huge", "fast"]),
        (["serve", "--port", "99999"], ["99999"]),
        (["report", "--price", "-1"], ["-1"]),
        (["rm", "org/note"], ["--yes"]),
    ],
)
def test_wrong_command_lines(run, folder: str, args: list[str], words: list[str]) -> None:
    check_failure(run("--vault", folder, *args), 2, *words)
    result = run("--json", "--vault", folder, *args)
    assert json.loads(result.stdout)["error"]["code"] == "usage"


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["info", "org/other"], 3, ["org/other", "weightvault ls"]),
        (["rm", "org/other", "--yes"], 3, ["org/other"]),
        (["pull", "org/other", "out"], 3, ["org/other"]),
        (["info", "../x"], 4, ["'../x'"]),
        (["push", "no-such-folder", "org/x"], 4, ["no-such-folder"]),
    ],
)
def test_wrong_names(run, folder: str, args: list[str], status: int, words: list[str]) -> None:
    check_failure(run("--vault", folder, *args), status, *words)


def test_a_wrong_name_makes_no_vault(run, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    vault = tmp_path / "nowhere"
    for args in (["../x"], ["org/m", "--revision", "../y"]):
        check_failure(run("--vault", vault, "push", tmp_path / "file", *args), 4, "not allowed")
        assert not vault.exists()


def test_a_revision_that_leads_out(run, folder: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    check_failure(run("--vault", folder, "pull", "org/note", out, "--revision", "../x"), 4, "../x")
    assert not out.exists()


@pytest.mark.parametrize("verb", [["ls"], ["check"], ["report"], ["info", "a/b"]])
def test_reading_makes_no_vault(run, tmp_path: Path, verb: list[str]) -> None:
    vault = tmp_path / "nowhere"
    check_failure(run("--vault", vault, *verb), 3, "nowhere")
    assert not vault.exists()


def test_no_server(run) -> None:
    check_failure(run("--vault", "http://127.0.0.1:9", "ls"), 5, "http://127.0.0.1:9", "serve")


def test_serving_a_server(run) -> None:
    check_failure(run("--vault", "http://127.0.0.1:9", "serve"), 4, "is a server already")


def test_a_broken_folder_over_http(run, live: str, local: LocalVault, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for name in ("model.safetensors", "tokenizer.json"):
        (folder / name).symlink_to(f"../blobs/{name}")
    push = ("--vault", live, "push", folder, "org/broken")
    result = run(*push)
    assert (result.exit_code, result.stdout) == (4, "")
    for word in ("model.safetensors", "tokenizer.json", "hint: ", "--skip-broken"):
        assert word in result.stderr
    error = json.loads(run("--json", *push).stdout)["error"]
    assert [each["path"] for each in error["files"]] == ["model.safetensors", "tokenizer.json"]
    assert local.list_repos() == []
    assert list(local.scratch.glob("upload-*")) == []


def failing_vault(monkeypatch: pytest.MonkeyPatch, raising: Callable[[], BaseException]) -> None:
    def fail(*_: object) -> None:
        raise raising()

    monkeypatch.setattr(LocalVault, "list_repos_of", fail)


STATUS = {
    "vault_error": 1,
    "not_found": 3,
    "invalid_input": 4,
    "unreachable": 5,
    "storage_full": 6,
    "conflict": 7,
    "corrupt": 8,
    "access_refused": 9,
}


@pytest.mark.parametrize("code", STATUS)
def test_every_kind_of_failure(
    run, folder: str, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    failing_vault(monkeypatch, lambda: error_classes()[code]("what failed", "what to do"))
    check_failure(run("--vault", folder, "ls"), STATUS[code], "what failed", "what to do")
    result = run("--vault", folder, "ls", "--json")
    assert result.exit_code == STATUS[code]
    assert json.loads(result.stdout) == {
        "error": {"code": code, "message": "what failed", "hint": "what to do"}
    }
    assert "error: what failed" in result.stderr


def test_unexpected_failures(run, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_vault(monkeypatch, lambda: ZeroDivisionError("by zero"))
    check_failure(run("--vault", folder, "ls"), 1, "by zero", "WEIGHTVAULT_DEBUG=1")
    monkeypatch.setenv("WEIGHTVAULT_DEBUG", "1")
    assert "Traceback" in run("--vault", folder, "ls").stderr


def test_failures_of_the_operating_system(
    run, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_vault(monkeypatch, lambda: OSError(28, "No space left on device", "/some/file"))
    check_failure(run("--vault", folder, "ls"), 6, "/some/file")


def test_interrupts(run, folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failing_vault(monkeypatch, KeyboardInterrupt)
    result = run("--vault", folder, "ls")
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


@pytest.mark.parametrize(
    ("method", "message"),
    [("find_missing", "nothing was committed"), ("commit", "may have been made")],
)
def test_an_interrupted_push_says_what_became_of_it(
    run, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, message: str
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalVault, method, interrupt)
    (tmp_path / "other.txt").write_text("other")
    result = run("--vault", folder, "push", tmp_path / "other.txt", "org/other")
    check_failure(result, 130, message, "again")


def test_an_interrupted_pull_says_what_became_of_it(
    run, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalVault, "read_frames", interrupt)
    result = run("--vault", folder, "pull", "org/note", tmp_path / "out")
    check_failure(result, 130, "interrupted", "pull again")
