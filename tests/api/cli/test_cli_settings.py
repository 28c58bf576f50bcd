"""Deciding whose weights are bases, and which commits stay, as people type it."""

import json
from pathlib import Path

from models import make_weights, tune, write_model


def test_whose_weights_are_bases(run, tmp_path: Path):
    url = str(tmp_path / "vault")
    base = write_model(tmp_path / "base", make_weights(1))
    tuned = write_model(tmp_path / "tune", tune(make_weights(1), 2))

    def sharing(*words: str) -> str:
        found = run("--vault", url, "settings", "base-sharing", *words, "--json")
        assert found.exit_code == 0, found.output
        return json.loads(found.stdout)["base_sharing"]

    def push(folder: Path, repo: str) -> int:
        return json.loads(run("--vault", url, "push", folder, repo, "--json").stdout)["sent"]

    whole = push(base, "you/base")
    assert sharing() == "default"
    assert sharing("own") == "own"
    alone = push(tuned, "me/tune")
    assert alone > 0.9 * whole
    run("--vault", url, "rm", "me/tune", "--yes")
    run("--vault", url, "gc", "--grace", "0")
    run("--vault", url, "token", "create", "--name", "me", "--role", "write", "--namespace", "me")
    assert sharing("all") == "all"
    assert push(tuned, "me/tune") < 0.8 * alone
    assert sharing("default") == "default"
    assert "until one is limited" in run("--vault", url, "settings", "base-sharing").stdout
    assert run("--vault", url, "settings", "base-sharing", "none").exit_code == 2


def test_the_decision_outlives_a_rebuild(run, tmp_path: Path):
    url = str(tmp_path / "vault")
    base = write_model(tmp_path / "base", make_weights(1))
    assert run("--vault", url, "push", base, "you/base").exit_code == 0
    assert run("--vault", url, "settings", "base-sharing", "own").exit_code == 0
    assert run("--vault", url, "rebuild-catalogue").exit_code == 0
    assert "base-sharing own" in run("--vault", url, "settings", "base-sharing").stdout


def stored_bytes(folder: Path) -> int:
    """The bytes of a vault's objects, the journal aside."""
    files = (folder / "vault/objects").rglob("*")
    return sum(p.stat().st_size for p in files if p.is_file() and p.parent.name != "journal")


def test_forgetting_commits(run, tmp_path: Path):
    url = str(tmp_path / "vault")
    for seed in (1, 2, 3):
        run("--vault", url, "push", write_model(tmp_path / "m", make_weights(seed)), "org/run")
    planned = run("--vault", url, "forget", "org/run", "--keep-last", "1", "--dry-run", "--json")
    shown = json.loads(planned.stdout)
    assert (shown["kept_count"], shown["forgotten_count"], shown["dry_run"]) == (1, 2, True)
    done = run("--vault", url, "forget", "org/run", "--keep-last", "1")
    assert "forgot 2 commits of org/run, 1 stay" in done.stdout
    assert f"({shown['freed']} bytes) stored can be freed" in done.stdout
    before = stored_bytes(tmp_path)
    run("--vault", url, "gc", "--grace", "0")
    assert before - stored_bytes(tmp_path) == shown["freed"]
    assert run("--vault", url, "forget", "org/run").exit_code == 2
    assert run("--vault", url, "forget", "org/run", "--keep-last", "0").exit_code == 2
    assert run("--vault", url, "forget", "org/none", "--keep-last", "1").exit_code == 3


def test_rules_of_a_namespace(run, tmp_path: Path):
    url = str(tmp_path / "vault")

    def retention(*words: str) -> str:
        found = run("--vault", url, "retention", *words)
        assert found.exit_code == 0, found.output
        return found.stdout

    run("--vault", url, "push", write_model(tmp_path / "m", make_weights(1)), "org/run")
    rules = ("--keep-daily", "7", "--keep-last", "unlimited", "--keep-within", "30d")
    assert "no namespace" in retention("show")
    retention("set", "org", *rules, "--keep-tagged")
    line = "org  --keep-last -1 --keep-daily 7 --keep-within 30d --keep-tagged"
    assert line in retention("show")
    document = json.loads(retention("show", "--json"))["retention"]
    assert [each["namespace"] for each in document] == ["org"]
    retention("remove", "org")
    assert "no namespace" in retention("show")
    assert run("--vault", url, "retention", "set", "org").exit_code == 2
