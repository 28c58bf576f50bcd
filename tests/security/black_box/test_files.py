"""Attacks by whoever can write to the storage, and takes entries of the journal away; by whoever
has an account on the server's machine; by pages, where answers tell browsers too little."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import numpy as np
import pytest
from models import make_weights, write_model
from product import NotSetUp, Vault, require


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault")


def cut_newest(vault: Vault) -> None:
    """Takes the newest entry of the journal away."""
    max((vault.root / "objects/journal").iterdir()).unlink()


def test_a_cut_journal_is_noticed(vault: Vault, tmp_path: Path):
    vault.push(write_model(tmp_path / "model", make_weights(1)), "org/m")
    require(vault.run("check").returncode == 0, "the vault is damaged from the start")
    cut_newest(vault)
    done = vault.run("check")
    assert done.returncode == 1, f"check finds nothing: {done.stdout}{done.stderr}"


def test_a_revoked_token_stays_revoked(vault: Vault):
    """The entry of its revocation goes, and the catalogue is built anew."""
    secret = vault.make_token("fired", "admin")
    require(vault.run("token", "revoke", "fired").returncode == 0, "not revoked")
    cut_newest(vault)
    for path in vault.root.glob("catalogue.sqlite*"):
        path.unlink()
    vault.run("rebuild-catalogue")
    try:
        with vault.serve() as server:
            status = server.client(secret).get("/v1/repos").status_code
    except NotSetUp as refused:
        require("journal" in str(refused), refused)
        return
    assert status == 401, f"a revoked token of an administrator works again: {status}"


def test_files_are_for_their_owner(vault: Vault, tmp_path: Path):
    """In a folder that was there before, too: the key that signs sessions is among them."""
    vault.root.mkdir(mode=0o755)
    model = write_model(tmp_path / "model", make_weights(1))
    done = vault.run("push", model, "org/m", umask=0o022)
    require(done.returncode == 0, done.stderr)
    wide = [
        str(path.relative_to(vault.root))
        for path in vault.root.rglob("*")
        if path.lstat().st_mode & 0o077
    ]
    assert "catalogue.sqlite" not in wide, "everybody on the machine reads the catalogue"
    assert not wide


def test_a_full_disk_names_no_paths(vault: Vault, tmp_path: Path):
    """As a limit on the length of files has it: what is sent is as long, what is kept longer."""
    with vault.serve() as server:
        user = server.hub()
        require(user.create("org/m").is_success, "no repo")
        data = np.random.default_rng(1).bytes(1 << 20)
        href = user.batch("org/m", data)["actions"]["upload"]["href"]
        limits = (len(data), len(data))
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)
        answer = user.web.put(href, content=data)
    require(answer.status_code == 507, f"{answer.status_code}: {answer.text}")
    assert str(tmp_path) not in answer.text, f"an answer names a path: {answer.text}"


def test_the_documentation_loads_nothing_from_elsewhere(hub):
    page = hub.user("root").web.get("/docs")
    require(page.status_code == 200, page.text)
    foreign = re.findall(r"https?://[^\"' ]+", page.text)
    assert not foreign, f"/docs loads {foreign[:2]}"
    assert "content-security-policy" in page.headers


def test_files_of_others_are_saved_and_not_shown(hub):
    """A browser that shows an uploaded page runs its scripts as the hub's."""
    you = hub.user("you")
    require(you.create("you/pages", private=False).is_success, "no repo")
    require(you.commit("you/pages", {"page.html": b"<script>alert(1)</script>"}).is_success, "")
    for path in ("/you/pages/resolve/main/page.html", "/v1/repos/you/pages/files/page.html"):
        headers = you.web.get(path).headers
        assert headers.get("content-disposition", "").startswith("attachment"), f"{path} is shown"
        assert headers.get("x-content-type-options") == "nosniff"
        assert "no-store" in headers.get("cache-control", "")
        assert "Authorization" in headers.get("vary", "")
