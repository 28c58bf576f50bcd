"""The verbs about commits and what is in them, on a folder and through a server."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import make_weights, read_folder, to_bf16, tune, write_model

from weightvault.api.cli import main


@pytest.fixture(params=["folder", "server"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty vault."""
    if request.param == "folder":
        return str(tmp_path / "vault")
    return request.getfixturevalue("live")


@pytest.fixture
def ask(run, vault: str):
    """Runs a command on the vault; returns the JSON document it prints."""

    def invoke(*words: object, status: int = 0) -> Any:
        done = run(*words, "--vault", vault, "--json")
        assert done.exit_code == status, done.output
        return json.loads(done.stdout)

    return invoke


@pytest.fixture
def commits(ask, tmp_path: Path) -> list[str]:
    """Two commits of org/model, the older first and tagged v1."""
    weights = make_weights(1)
    made = []
    for seed, words in ((2, ["--tag", "v1"]), (3, [])):
        write_model(tmp_path / "model", tune(weights, seed), f"# Model {seed}\n")
        done = ask("push", tmp_path / "model", "org/model", "-m", f"epoch {seed}\nfine", *words)
        made.append(done["commit"]["id"])
    return made


def test_commits_tags_and_branches(ask, commits: list[str]) -> None:
    log = ask("log", "org/model")["commits"]
    assert [(c["id"], c["title"], c["message"]) for c in log] == [
        (commits[1], "epoch 3", "fine"),
        (commits[0], "epoch 2", "fine"),
    ]
    assert len(ask("log", "org/model@v1")["commits"]) == 1
    assert len(ask("log", "org/model", "-n", 1)["commits"]) == 1
    assert ask("tag", "org/model") == {"tags": {"v1": commits[0]}}
    made = ask("branch", f"org/model@{commits[0][:7]}", "dev/x")
    assert made == {"branch": "dev/x", "commit": commits[0]}
    assert ask("tag", "org/model", "v2", "-m", "the second")["commit"] == commits[1]
    assert set(ask("branch", "org/model")["branches"]) == {"main", "dev/x"}
    assert ask("branch", "org/model", "dev/x", "--delete") == {"deleted": "dev/x"}
    assert ask("tag", "org/model", "v2", "--delete") == {"deleted": "v2"}
    assert ask("tag", "org/model") == {"tags": {"v1": commits[0]}}


def test_a_push_with_a_tag_that_is_there_stores_nothing(
    ask, commits: list[str], tmp_path: Path
) -> None:
    (tmp_path / "model" / "README.md").write_text("# Another\n")
    done = ask("push", tmp_path / "model", "org/model", "--tag", "v1", status=7)
    assert done["error"]["code"] == "conflict"
    assert ask("log", "org/model")["commits"][0]["id"] == commits[1]


def test_what_differs(ask, run, vault: str, commits: list[str]) -> None:
    found = ask("diff", "org/model@v1", "org/model", "--values")
    assert (found["before"], found["after"]) == tuple(commits)
    assert {f["path"]: f["kind"] for f in found["files"]} == {
        "README.md": "changed",
        "model.safetensors": "changed",
    }
    assert {t["name"] for t in found["tensors"]} == set(make_weights(1))
    assert all(0 < t["distance"] < 0.1 for t in found["tensors"])
    assert found["same_files"] == 1
    text = run("--vault", vault, "diff", "org/model@v1", "org/model").stdout
    assert "layer.0.weight" in text
    assert "1 file and 0 tensors are the same" in text
    # A column that says nothing is not shown.
    assert "distance" not in text
    text = run("--vault", vault, "diff", "org/model@v1", "org/model", "--values").stdout
    assert "distance" in text


def test_files_and_tensors(ask, run, vault: str, commits: list[str], tmp_path: Path) -> None:
    files = {f["path"]: f for f in ask("ls", "org/model@v1")["files"]}
    assert files["model.safetensors"]["tensors"] == 3
    card = ask("cat", "org/model@v1", "README.md")
    assert base64.b64decode(card["base64"]) == b"# Model 2\n"
    done = run("--vault", vault, "cat", "org/model", "model.safetensors")
    assert done.stdout_bytes == (tmp_path / "model" / "model.safetensors").read_bytes()
    assert run("--vault", vault, "cat", "org/model", "none").exit_code == 3
    facts = ask("tensor", "org/model", "embed.weight", "--stats", "-o", tmp_path / "x.npy")
    bits = to_bf16(tune(make_weights(1), 3)["embed.weight"])
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    assert (facts["dtype"], facts["shape"], facts["size"]) == ("BF16", [96, 64], values.size * 2)
    assert facts["first"] == values.reshape(-1)[:6].tolist()
    assert facts["stats"]["largest"] == values.max()
    assert facts["stats"]["deviation"] == pytest.approx(values.std(), rel=1e-5)
    assert np.array_equal(np.load(tmp_path / "x.npy"), values)
    assert ask("tensor", "org/model", "none", status=3)["error"]["code"] == "tensor_not_found"
    wrong = ask("tensor", "org/model", "embed.weight", "-o", tmp_path / "x.bin", status=4)
    assert wrong["error"]["code"] == "invalid_input"


def test_copies_and_names(ask, commits: list[str], tmp_path: Path) -> None:
    copied = ask("cp", "org/model@v1", "lab/copy@dev", "-m", "the first")["commit"]
    assert (copied["repo"], copied["branch"], copied["title"]) == ("lab/copy", "dev", "the first")
    assert ask("cp", "org/model", "lab/copy@dev", status=7)["error"]["code"] == "conflict"
    assert ask("mv", "lab/copy", "lab/new") == {"renamed": "lab/copy", "to": "lab/new"}
    assert [r["name"] for r in ask("ls")["repos"]] == ["lab/new", "org/model"]
    ask("pull", "lab/new@dev", tmp_path / "out")
    assert ask("verify", tmp_path / "out", "org/model@v1")["wrong"] == []
    differing = ask("verify", tmp_path / "out", "org/model", status=1)
    assert differing["wrong"] == ["README.md", "model.safetensors"]


def test_a_pull_of_some_files(ask, commits: list[str], tmp_path: Path) -> None:
    def pulled(*words: str) -> set[str]:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        ask("pull", "org/model", out, *words)
        return set(read_folder(out))

    assert pulled("README.md") == {"README.md"}
    assert pulled("--include", "*.safetensors", "--include", "con*") == {
        "model.safetensors",
        "config.json",
    }
    assert pulled("README.md", "--include", "*.json") == {"README.md", "config.json"}
    assert pulled("--exclude", "*.safetensors") == {"README.md", "config.json"}
    nothing = ask("pull", "org/model", tmp_path / "none", "--include", "*.bin", status=3)
    assert nothing["error"]["code"] == "entry_not_found"


def test_a_revision_is_named_once(ask, tmp_path: Path) -> None:
    words = ("pull", "org/model@v1", tmp_path / "out", "--revision", "v2")
    assert ask(*words, status=4)["error"]["code"] == "invalid_input"


def test_every_verb_is_in_a_section_of_the_help(run) -> None:
    text = run("--help").stdout
    for name in main.cli.commands:
        assert f"\n  {name} " in text, name


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("weightvault --vault {} info org/", {"org/model", "org/other"}),
        ("weightvault --vault {} log org/model@", {"org/model@main", "org/model@v1"}),
        ("weightvault --vault {} log org/none@", set()),
        ("weightvault --vault {}/none ls org", set()),
        ("weightvault lo", {"log"}),
    ],
)
def test_shells_complete_what_there_is(
    run, model: Path, tmp_path: Path, words: str, wanted: set[str]
) -> None:
    vault = str(tmp_path / "vault")
    for repo, more in (("org/model", ["--tag", "v1"]), ("org/other", [])):
        run("--vault", vault, "push", model, repo, *more)
    line = words.format(vault)
    asked = {
        "_WEIGHTVAULT_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
    }
    out = run(env=asked, prog_name="weightvault").stdout
    assert {row.partition(",")[2] for row in out.split()} == wanted


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_written_where_the_shell_looks(
    run, shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    script = run("completion", shell).stdout
    assert "_WEIGHTVAULT_COMPLETE" in script
    done = json.loads(run("completion", shell, "--install", "--json").stdout)
    assert Path(done["path"]).is_relative_to(tmp_path)
    assert Path(done["path"]).read_text().strip() == script.strip()
    Path(done["path"]).unlink()
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    assert json.loads(run("completion", "install", "--json").stdout) == done
    assert Path(done["path"]).exists()
