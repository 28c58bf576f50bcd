"""The verbs that keep a vault well, as people type them."""

import json
import os
import signal
import sqlite3
from pathlib import Path

import pytest
from old_catalogues import VERSIONS, make_version
from sqlalchemy import create_engine

from weightvault.api.cli import exits


@pytest.fixture
def vault(run, tmp_path: Path, model: Path) -> str:
    """A vault with a model, and one that was deleted."""
    url = str(tmp_path / "vault")
    (tmp_path / "other.bin").write_bytes(os.urandom(5000))
    for args in (("push", model, "org/m"), ("push", tmp_path / "other.bin", "org/gone")):
        assert run("--vault", url, *args).exit_code == 0
    assert run("--vault", url, "rm", "org/gone", "--yes").exit_code == 0
    return url


def document(result) -> dict:
    assert result.exit_code in (exits.OK, exits.FAILED), result.output
    return json.loads(result.stdout)


def test_gc_waits_and_then_frees(run, vault: str):
    waiting = document(run("--vault", vault, "gc", "--json"))
    assert (waiting["removed"], waiting["waiting"]) == (0, 2)
    said = document(run("--vault", vault, "gc", "--grace", "0", "--dry-run", "--json"))
    done = document(run("--vault", vault, "gc", "--grace", "0", "--json"))
    assert said["removed_bytes"] == done["removed_bytes"] > 5000
    assert done["removed"] == 2
    assert document(run("--vault", vault, "report", "--json"))["garbage"] == 0


def test_gc_in_words(run, vault: str):
    text = run("--vault", vault, "gc", "--grace", "0", "--dry-run").stdout
    assert "2 objects (5." in text
    assert "would be removed" in text
    assert "waiting for the end of the grace" in text


def test_gc_tells_of_another_catalogue_until_told_that_there_is_none(run, vault: str):
    Path(vault, "catalogue.sqlite").unlink()
    assert run("--vault", vault, "rebuild-catalogue").exit_code == 0
    waiting = run("--vault", vault, "gc")
    assert "1 other catalogue, or a backup, was at work here" in waiting.stdout
    assert "run `gc --alone`" in waiting.stdout
    assert document(run("--vault", vault, "gc", "--alone", "--dry-run", "--json"))["others"] == 1
    assert document(run("--vault", vault, "gc", "--alone", "--json"))["others"] == 0
    assert "other catalogue" not in run("--vault", vault, "gc").stdout


def test_undelete_until_the_grace_has_ended(run, vault: str):
    assert "org/gone is back, 1 commit" in run("--vault", vault, "undelete", "org/gone").stdout
    assert document(run("--vault", vault, "ls", "--json"))["repos"][0]["name"] == "org/gone"
    run("--vault", vault, "rm", "org/gone", "--yes")
    run("--vault", vault, "gc", "--grace", "0")
    failed = run("--vault", vault, "undelete", "org/gone")
    assert failed.exit_code == 3
    assert "push the files again" in failed.stderr


def test_scrub_finds_and_repair_says_what_is_lost(run, vault: str):
    assert "all well" in run("--vault", vault, "scrub").stdout
    assert run("--vault", vault, "repair").stdout == "nothing to repair\n"
    for path in Path(vault, "objects/packs").rglob("*/*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 4] ^= 1
        path.write_bytes(data)
    found = run("--vault", vault, "scrub", "--json")
    assert found.exit_code == exits.FAILED
    assert any("org/m@main:" in problem for problem in document(found)["problems"])
    done = run("--vault", vault, "repair", "--json")
    assert done.exit_code == exits.FAILED
    assert "org/m@main:" in document(done)["lost"][0]


@pytest.mark.parametrize("share", ["5%", "0.05", "100%"])
def test_samples_and_rates(run, vault: str, share: str):
    found = document(run("--vault", vault, "scrub", "--sample", share, "--rate", "50M", "--json"))
    assert found["packs"] >= 1


@pytest.mark.parametrize(
    "args", [("--sample", "0"), ("--sample", "200%"), ("--sample", "x"), ("--rate", "fast")]
)
def test_wrong_shares_and_rates(run, vault: str, args: tuple[str, str]):
    assert run("--vault", vault, "scrub", *args).exit_code == exits.USAGE


def test_rebuild_and_migrate(run, vault: str):
    before = run("--vault", vault, "info", "org/m", "--json").stdout
    assert "1 repo, 1 commit" in run("--vault", vault, "rebuild-catalogue").stdout
    assert run("--vault", vault, "info", "org/m", "--json").stdout == before
    assert "is up to date" in run("--vault", vault, "migrate").stdout


def test_migrate_and_check_show_how_far_they_are(run, vault: str):
    before = run("--vault", vault, "info", "org/m", "--json").stdout
    make_old(vault)
    done = run("--vault", vault, "migrate")
    versions = len(VERSIONS) - 1
    assert f"migrating: {versions} of {versions} versions (100.0 %)" in done.stderr
    assert "is up to date" in done.stdout
    assert run("--vault", vault, "info", "org/m", "--json").stdout == before
    checked = run("--vault", vault, "check")
    assert "checking commits: 1 of 1 commits (100.0 %)" in checked.stderr
    assert "checking packs: 1 of 1 packs (100.0 %)" in checked.stderr
    assert "all well" in checked.stdout


@pytest.mark.parametrize(
    ("verb", "where", "said"),
    [
        ("check", "weightvault.dedup.verification.check._check_pack", "a check changes nothing"),
        (
            "migrate",
            "weightvault.store.catalogue.tables.migrate._lock",
            "the catalogue is as it was",
        ),
    ],
)
def test_interrupted_they_say_what_became_of_it(run, vault: str, verb, where, said, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    make_old(vault)
    if verb == "check":
        run("--vault", vault, "migrate")
    monkeypatch.setattr(where, interrupt)
    stopped = run("--vault", vault, verb)
    assert stopped.exit_code == exits.INTERRUPTED
    assert said in stopped.stderr
    assert f"run {verb} again" in stopped.stderr
    monkeypatch.undo()
    assert run("--vault", vault, verb).exit_code == exits.OK


def make_old(vault: str) -> None:
    """Gives a vault the empty catalogue of the first version."""
    for path in Path(vault).glob("catalogue.sqlite*"):
        path.unlink()
    engine = create_engine(f"sqlite:///{vault}/catalogue.sqlite")
    make_version(engine, VERSIONS[0])
    engine.dispose()


@pytest.mark.parametrize(
    "args",
    [
        ("gc",),
        ("undelete", "org/m"),
        ("scrub",),
        ("repair",),
        ("rebuild-catalogue",),
        ("migrate",),
    ],
)
def test_a_server_is_not_asked(run, args: tuple[str, ...]):
    refused = run("--vault", "http://127.0.0.1:1", *args)
    assert refused.exit_code == 4
    assert "run it where the server runs" in refused.stderr
    alone = args[0] in ("rebuild-catalogue", "migrate")
    meanwhile = "stop the server first" if alone else "the server may go on meanwhile"
    assert meanwhile in refused.stderr


def test_an_interrupted_scrub_says_how_to_go_on(spawn, vault: str, wait_until):
    # Slow enough to be met in the middle.
    process = spawn("--vault", vault, "scrub", "--rate", "1K")

    def has_begun() -> bool:
        with sqlite3.connect(f"{vault}/catalogue.sqlite") as database:
            names = database.execute("SELECT name FROM settings").fetchall()
        return ("scrub_started",) in names

    wait_until(has_begun)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == exits.INTERRUPTED
    assert "run scrub again to go on" in stderr
