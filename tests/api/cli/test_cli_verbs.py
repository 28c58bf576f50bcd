"""Every verb on every kind of vault."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from models import make_weights, read_folder, tune, write_model

VERBS = ["serve", "push", "pull", "ls", "info", "report", "rm", "check", "inspect", "version"]


@pytest.fixture(params=["directory", "http", "s3"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty vault of each kind."""
    if request.param == "directory":
        return str(tmp_path / "vault")
    return request.getfixturevalue("live" if request.param == "http" else "s3_url")


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """The address of a vault in a folder, where the kind does not matter."""
    return str(tmp_path / "vault")


def document(result) -> dict:
    """The one JSON document on stdout of a command that succeeded."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_whole_way(run, vault: str, model: Path, tmp_path: Path) -> None:
    size = sum(map(len, read_folder(model).values()))
    pushed = document(run("--vault", vault, "push", model, "org/model", "--json"))
    assert pushed["logical"] == size
    assert pushed["files"] == 3
    assert pushed["sent"] > 0
    again = document(run("--vault", vault, "--json", "push", model, "org/model"))
    assert (again["sent"], again["commit"]) == (0, pushed["commit"])

    listed = document(run("--vault", vault, "ls", "--json"))["repos"]
    assert [(r["name"], r["branches"], r["size"]) for r in listed] == [
        ("org/model", ["main"], size)
    ]
    described = document(run("--vault", vault, "info", "org/model", "--json"))
    assert described["branches"] == {"main": pushed["commit"]["id"]}

    out = tmp_path / "out"
    pulled = document(run("--vault", vault, "pull", "org/model", out, "--json"))
    assert (pulled["files"], pulled["unchanged"]) == (3, 0)
    assert read_folder(out) == read_folder(model)
    (out / "config.json").write_text("changed")
    repaired = document(run("--vault", vault, "pull", "org/model", out, "--json"))
    assert repaired["unchanged"] == 2
    assert read_folder(out) == read_folder(model)

    checked = document(run("--vault", vault, "check", "--json"))
    assert (checked["ok"], checked["repos"], checked["problems"]) == (True, 1, [])
    removed = document(run("--vault", vault, "rm", "org/model", "--yes", "--json"))
    assert set(removed) == {"deleted", "own", "restorable_until"}
    assert removed["deleted"] == "org/model"
    assert document(run("--vault", vault, "ls", "--json")) == {"repos": []}


def test_revisions_and_bases(run, vault: str, model: Path, tmp_path: Path) -> None:
    tuned = write_model(tmp_path / "tuned", tune(make_weights(1), 2))
    run("--vault", vault, "push", model, "org/model")
    push = ("push", tuned, "org/tuned", "--base", "org/model", "--revision", "dev/x", "--json")
    pushed = document(run("--vault", vault, *push))
    assert pushed["commit"]["base"] == "org/model"
    for revision in ("dev/x", pushed["commit"]["id"]):
        out = tmp_path / revision
        document(run("--vault", vault, "pull", "org/tuned", out, "--revision", revision, "--json"))
        assert read_folder(out) == read_folder(tuned)
    assert run("--vault", vault, "pull", "org/tuned", tmp_path / "no").exit_code == 3


def test_report(run, vault: str, model: Path) -> None:
    run("--vault", vault, "push", model, "org/one")
    run("--vault", vault, "push", model, "org/two")
    size = sum(map(len, read_folder(model).values()))
    found = document(run("--vault", vault, "report", "--price", "10", "--json"))
    assert found["logical"] == 2 * size
    assert found["stages"]["files"] == size
    assert found["costs"]["plain"]["total"] == pytest.approx(2 * size / 2**30 * 10)
    assert found["costs"]["stored"]["total"] == pytest.approx(found["stored"] / 2**30 * 10)
    assert found["logical"] - sum(found["stages"].values()) == found["frames"]
    again = document(run("--vault", vault, "report", "--price", "10", "--format", "json"))
    assert {**again, "at": 0} == {**found, "at": 0}

    table = csv.DictReader(io.StringIO(run("--vault", vault, "report", "--format", "csv").stdout))
    numbers = {(r["scope"], r["name"], r["metric"]): float(r["value"]) for r in table}
    assert numbers["vault", "", "logical"] == 2 * size
    assert numbers["vault", "", "saved_files"] == size
    assert numbers["vault", "", "stored"] == found["stored"]
    assert numbers["repo", "org/one", "own"] == 0
    assert numbers["repo", "org/two", "shared"] == found["frames"]

    text = run("--vault", vault, "report").stdout
    for word in ("logical", "unique", "whole files", "tensors", "coding", "deltas", "stored"):
        assert word in text
    assert "per month by Amazon S3 Standard, us-east-1" in text
    assert "org/one" in text


def test_what_people_see(run, folder: str, model: Path, tmp_path: Path) -> None:
    pushed = run("--vault", folder, "push", model, "org/model")
    assert pushed.stdout.startswith("pushed org/model main ")
    assert "3 files" in pushed.stdout
    assert "storing: " in pushed.stderr
    assert "org/model" in run("--vault", folder, "ls").stdout
    assert "model.safetensors" in run("--vault", folder, "info", "org/model").stdout
    pulled = run("--vault", folder, "pull", "org/model", tmp_path / "out")
    assert pulled.stdout.startswith("pulled org/model main ")
    assert "pulling: " in pulled.stderr
    assert run("--vault", folder, "check").stdout.endswith(": all well\n")
    removed = run("--vault", folder, "rm", "org/model", "--yes").stdout
    assert removed.startswith("deleted org/model, 1 commit\n")
    assert run("--vault", folder, "ls").stdout == "no repos yet\n"


def test_check_that_finds_something(run, folder: str, model: Path) -> None:
    run("--vault", folder, "push", model, "org/model")
    shutil.rmtree(Path(folder) / "objects" / "packs")
    result = run("--vault", folder, "check")
    assert result.exit_code == 1
    assert "problem" in result.stdout
    found = run("--vault", folder, "check", "--json")
    assert found.exit_code == 1
    assert json.loads(found.stdout)["ok"] is False
    assert json.loads(found.stdout)["problems"]
    pulled = run("--vault", folder, "pull", "org/model", Path(folder).parent / "out")
    assert pulled.exit_code == 8
    assert "weightvault scrub" in pulled.stderr


def test_version(run) -> None:
    from weightvault import __version__

    assert document(run("version", "--json"))["version"] == __version__
    assert run("version").stdout.startswith(f"weightvault {__version__} ")
    assert __version__ in run("--version").stdout


def test_the_vault_of_the_environment(
    run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEIGHTVAULT_URL", str(tmp_path / "by-environment"))
    run("push", model, "org/model")
    assert (tmp_path / "by-environment" / "objects").is_dir()
    monkeypatch.delenv("WEIGHTVAULT_URL")
    run("push", model, "org/model")
    assert (tmp_path / "home" / "weightvault" / "vault" / "objects").is_dir()


def test_help_names_every_verb_and_status(run) -> None:
    text = run("--help").stdout
    for word in [*VERBS, "Exit status:", "WEIGHTVAULT_URL", "130"]:
        assert word in text
    for verb in VERBS:
        assert "--json" in run(verb, "--help").stdout
