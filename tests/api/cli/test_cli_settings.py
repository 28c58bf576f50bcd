"""Deciding whose weights are bases, as people type it."""

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
