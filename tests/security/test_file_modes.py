"""What a vault keeps is for its owner alone, and so is the key that sessions are signed with."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import run
from sqlalchemy import insert

from weightvault.api.config import open_local_vault
from weightvault.api.hub.signing import InvalidSignature, Signer, open_signer
from weightvault.api.key_file import key_path, load_key
from weightvault.dedup.transfer.push import push
from weightvault.store.catalogue.catalogue import open_catalogue
from weightvault.store.catalogue.tables.schema import settings


@pytest.fixture(autouse=True)
def usual_umask(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What most systems give, whatever the tests run with."""
    for name in [n for n in os.environ if n.startswith("WEIGHTVAULT_") and "TEST" not in n]:
        monkeypatch.delenv(name)
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """The permissions of all below a folder, by path."""
    found = [folder, *folder.rglob("*")]
    return {str(p.relative_to(folder)): stat.S_IMODE(p.lstat().st_mode) for p in found}


@pytest.mark.parametrize("there_before", [False, True])
def test_what_a_vault_makes_is_for_its_owner(there_before: bool, model: Path, tmp_path: Path):
    folder = tmp_path / "vault"
    if there_before:
        folder.mkdir(mode=0o755)
    assert run("--vault", folder, "push", model, "org/m").exit_code == 0
    vault = open_local_vault(str(folder))
    open_signer(vault.catalogue)
    with vault.catalogue.reading():
        found = modes(folder)
    vault.close()
    if there_before:
        assert found.pop(".") == 0o755
    assert {"catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite.key"} <= found.keys()
    assert any(path.startswith("objects/packs/") for path in found)
    assert {path: oct(mode) for path, mode in found.items() if mode & 0o077} == {}


def test_an_operator_may_choose_a_group(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WEIGHTVAULT_UMASK", "007")
    os.umask(0o002)
    done = run("--vault", tmp_path / "vault", "push", model, "org/m")
    assert done.exit_code == 0
    assert "warning" not in done.stderr
    for path, mode in modes(tmp_path / "vault").items():
        assert mode & 0o007 == 0, path
        assert mode & 0o060 == 0o060, path


@pytest.mark.parametrize("text", ["rwx", "9", "0700", "1777", "-77", ""])
def test_a_umask_that_is_none(text: str, model: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("WEIGHTVAULT_UMASK", text)
    done = run("--vault", tmp_path / "vault", "push", model, "org/m")
    assert done.exit_code == (0 if not text else 4)
    if text:
        assert "WEIGHTVAULT_UMASK" in done.stderr
        assert not (tmp_path / "vault").exists()


def test_what_is_pulled_has_the_users_own_modes(model: Path, tmp_path: Path):
    run("--vault", tmp_path / "vault", "push", model, "org/m")
    assert run("--vault", tmp_path / "vault", "pull", "org/m", tmp_path / "dest").exit_code == 0
    assert set(modes(tmp_path / "dest").values()) == {0o755, 0o644}


def widen(folder: Path) -> None:
    """Makes a vault what older versions made of a folder that was there before."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_vault_that_others_can_read_is_told_with_the_fix(model: Path, tmp_path: Path):
    folder = tmp_path / "a vault"
    run("--vault", folder, "push", model, "org/m")
    assert "warning" not in run("--vault", folder, "ls").stderr
    widen(folder)
    for verb in (["ls"], ["scrub"], ["--json", "ls"]):
        done = run("--vault", folder, *verb)
        assert done.exit_code == 0
        assert "others on this machine can read" in done.stderr
        assert "catalogue.sqlite" in done.stderr
    fix = re.search(r"hint: (chmod .*)", run("--vault", folder, "ls").stderr)
    assert fix is not None
    subprocess.run(["sh", "-c", fix[1]], check=True)
    assert "warning" not in run("--vault", folder, "ls").stderr


def test_a_server_tells_it_too(model: Path, tmp_path: Path):
    folder = tmp_path / "vault"
    run("--vault", folder, "push", model, "org/m")
    widen(folder)
    command = [sys.executable, "-m", "weightvault.api.cli.main", "--vault", str(folder)]
    with subprocess.Popen(
        [*command, "--json", "serve", "--port", "0", "--log-format", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert json.loads(server.stdout.readline())["url"]
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=60)
    messages = [json.loads(line)["message"] for line in log.splitlines()]
    assert any("can read" in each and "chmod -R go-rwx" in each for each in messages)


# The key


def test_a_key_from_an_exposed_catalogue_signs_nothing(tmp_path: Path):
    """With that key one made oneself a session of any token."""
    catalogue = open_catalogue(f"sqlite:///{tmp_path / 'catalogue.sqlite'}")
    stolen = "ab" * 32
    with catalogue.writing() as connection:
        connection.execute(insert(settings).values(name="signing_key", value=stolen))
    signer = open_signer(catalogue)
    with pytest.raises(InvalidSignature):
        signer.verify("session", Signer(bytes.fromhex(stolen)).sign("session", "me", 1e12))
    catalogue.close()
    with sqlite3.connect(tmp_path / "catalogue.sqlite") as database:
        text = "\n".join(database.iterdump())
    assert stolen not in text
    assert key_path(tmp_path / "catalogue.sqlite").read_text().strip() not in text


def test_servers_of_one_catalogue_share_the_key(tmp_path: Path):
    path = tmp_path / "catalogue.sqlite.key"
    assert load_key(path) == load_key(path)
    assert len(load_key(path)) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602])
def test_a_key_that_others_could_read_is_drawn_anew(mode: int, tmp_path: Path):
    path = tmp_path / "key"
    before = load_key(path)
    path.chmod(mode)
    assert load_key(path) != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"short\n", b"0" * 63 + b"\n", b"x" * 65, b"0" * 4096])
def test_a_damaged_key_is_drawn_anew(content: bytes, tmp_path: Path):
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_bytes(content)
    key = load_key(path)
    assert key.hex().encode() + b"\n" == path.read_bytes()


def test_a_planted_link_is_no_key(tmp_path: Path):
    known = tmp_path / "known"
    load_key(known)
    path = tmp_path / "key"
    path.symlink_to(known)
    with pytest.raises(Exception, match="cannot use the key"):
        load_key(path)


def test_a_session_outlives_a_restart(model: Path, tmp_path: Path):
    run("--vault", tmp_path / "vault", "push", model, "org/m")
    text = ""
    for _ in range(2):
        vault = open_local_vault(str(tmp_path / "vault"))
        signer = open_signer(vault.catalogue)
        text = text or signer.sign("session", "me", 1e12)
        assert signer.verify("session", text) == "me"
        push(vault, model, "org/n")
        vault.close()
