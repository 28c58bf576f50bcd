"""What people get wrong, and what the command line makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click.testing
import pytest

from weightvault.api.cli.main import cli
from weightvault.api.requests.tokens import create_token
from weightvault.dedup.local_vault import LocalVault


@pytest.fixture
def folder(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A vault with the repo org/model, and a folder `m` to push, from which all is run."""
    monkeypatch.chdir(tmp_path)
    Path("m").mkdir()
    Path("m", "config.json").write_text("{}")
    Path("file").write_text("f")
    assert run("--vault", "v", "push", "m", "org/model").exit_code == 0
    return "v"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("localhost:8377", ["http://localhost:8377", "./localhost:8377"]),
        ("hub.example.org:80/x", ["http://hub.example.org:80/x"]),
        ("[::1]:8377", ["http://[::1]:8377"]),
        ("http:/localhost:8377", ["http://localhost:8377"]),
        ("s3:bucket/x", ["s3://bucket/x"]),
    ],
)
def test_an_address_is_no_folder(run, folder: str, address: str, words: list[str]) -> None:
    result = run("--vault", address, "push", "m", "o/r")
    assert result.exit_code == 4
    for word in words:
        assert word in result.stderr
    assert set(os.listdir()) - {"home"} == {"file", "m", "v"}
    # Who does mean a folder can say so.
    assert run("--vault", "./a:1", "push", "m", "o/r").exit_code == 0
    assert run("--vault", "a:1", "ls").exit_code == 0


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["push", "org/model", "m"], 2, ["the folder comes first"]),
        (["pull", "out", "org/model"], 2, ["the repo comes first"]),
        (["pull", "org/model", "file"], 4, ["file is a file", "name a folder"]),
        (["pull", "org/model", "file/below"], 4, ["file is a file"]),
        (["info", "org/modle"], 3, ["did you mean org/model?"]),
        (["info", "Org/Model"], 3, ["did you mean org/model?"]),
        (["pull", "other/model", "out"], 3, ["did you mean org/model?"]),
        (["info", "nothing/alike"], 3, ["weightvault ls"]),
        (["push", "m", "model"], 4, ["me/model?"]),
        (["delete", "org/model"], 2, ["did you mean `weightvault rm`?"]),
        (["download", "org/model"], 2, ["did you mean `weightvault pull`?"]),
        (["gc", "--grace", "7 days"], 2, ["12h"]),
        (["diff", "org/model", "v1", "main"], 2, ["diff org/model@v1 org/model@main"]),
        (["tag", "org/model", "--delete"], 2, ["--delete takes a NAME"]),
        (["branch", "org/model", "--delete"], 2, ["--delete takes a NAME"]),
        (["branch", "org/model", "main"], 7, ["already exists", "delete the branch first"]),
        (["branch", "org/model", "main", "--delete"], 7, ["main and the last branch stay"]),
        (["tag", "org/model", "none", "--delete"], 3, ["weightvault tag org/model"]),
        (["pull", "org/model", "out", "config.json", "none"], 3, ["no file 'none'"]),
        (["completion", "install"], 2, ["completion bash --install"]),
    ],
)
def test_mistakes_are_answered_with_the_remedy(
    run,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    status: int,
    words: list[str],
) -> None:
    monkeypatch.delenv("SHELL", raising=False)
    result = run("--vault", folder, *args)
    assert result.exit_code == status, result.output
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize("grace", ["7d", "12h", "0", "0.5", "604800"])
def test_grace_is_a_length_of_time(run, folder: str, grace: str) -> None:
    assert run("--vault", folder, "gc", "--dry-run", "--grace", grace).exit_code == 0


def test_no_command_shows_the_help(run) -> None:
    result = run()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: ")
    assert json.loads(run("--json").stdout)["error"]["code"] == "usage"


def test_rm_says_what_it_frees_when_and_how_to_undo_it(run, folder: str) -> None:
    result = run("--vault", folder, "rm", "org/model", "--yes")
    for word in (
        " B stored for it alone",
        "weightvault gc",
        "after 20",
        "weightvault undelete org/model",
    ):
        assert word in result.stdout
    assert run("--vault", folder, "undelete", "org/model").exit_code == 0
    document = json.loads(run("--vault", folder, "rm", "org/model", "--yes", "--json").stdout)
    assert document["deleted"] == "org/model"
    assert 3 < document["own"] < 100
    assert document["restorable_until"] > 1_700_000_000


def test_names_of_branches_are_those_of_git(run, live: str, folder: str, tmp_path: Path) -> None:
    branch = "v1+ema#1=ü%25/ö&x"
    for vault, repo in ((folder, "o/_m"), (live, "o/m_")):
        push = ("--vault", vault, "push", "m", repo, "--revision", branch)
        assert run(*push).exit_code == 0
        assert branch in run("--vault", vault, "info", repo).stdout
        out = tmp_path / repo.replace("/", "")
        assert run("--vault", vault, "pull", repo, out, "--revision", branch).exit_code == 0
        assert (out / "config.json").read_text() == "{}"


def test_a_protected_server_does_not_pass_for_an_empty_one(
    run, live: str, local: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no repos yet" in run("--vault", live, "ls").stdout
    secret = create_token(local, "t", "read").secret
    result = run("--vault", live, "ls")
    assert result.exit_code == 9
    assert "without a token" in result.stderr
    assert "WEIGHTVAULT_TOKEN" in result.stderr
    monkeypatch.setenv("WEIGHTVAULT_TOKEN", secret)
    assert "no repos yet" in run("--vault", live, "ls").stdout


def test_addresses_that_miss_the_server(run, live: str) -> None:
    secure = live.replace("http:", "https:")
    result = run("--vault", secure, "ls")
    assert result.exit_code == 5
    assert "does not speak TLS" in result.stderr
    assert f"write {live}" in result.stderr
    result = run("--vault", f"{live}/org/model", "ls")
    assert result.exit_code == 4
    assert f"write {live}:" in result.stderr


def test_s3_without_credentials(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    result = run("--vault", "s3://bucket/x", "ls")
    assert result.exit_code == 9
    assert "no credentials" in result.stderr
    assert "AWS_ACCESS_KEY_ID" in result.stderr


def test_closed_streams_stop_no_verb(folder: str, tmp_path: Path) -> None:
    """In processes of their own: without stderr, without any, and into what was opened next."""
    program = f"{sys.executable} -m weightvault.api.cli.main --vault w --json push m o/r"
    done = subprocess.run(f"{program} 2>&-", shell=True, stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["files"] == 1
    done = subprocess.run(f"{program} <&- >&- 2>&-", shell=True, check=False)
    assert done.returncode == 0
    result = click.testing.CliRunner().invoke(cli, ["--vault", "w", "check"])
    assert result.exit_code == 0, result.output
