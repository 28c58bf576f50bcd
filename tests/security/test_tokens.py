"""Tokens: they expire, are rotated, hold in several namespaces, and are in their owners' hands."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click.testing
import pytest
from blake3 import blake3
from fastapi.testclient import TestClient
from live_server import serving
from models import make_weights, write_model
from vaults import open_anew, open_local

from weightvault.api.cli.main import cli
from weightvault.api.requests import callers
from weightvault.api.requests.tokens import (
    create_token,
    hash_token,
    make_token,
    recognise,
    revoke_token,
    rotate_token,
)
from weightvault.api.server.app import create_app
from weightvault.dedup.errors import InvalidInput, InvalidName, Missing, VaultError
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.model.journal_entries import TokenChange, pack_entry, parse_entry
from weightvault.dedup.transfer.refs import History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.store.catalogue.tokens import TokenRow, list_tokens

NEW_SECRET = re.compile(r"hf_[A-Za-z0-9]{34,}")
REPOS = ("acme/x", "lab/x", "other/x")


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[LocalVault]:
    opened = open_local(tmp_path / "served")
    history = History(opened, IncomingFiles(opened))
    for repo in REPOS:
        history.create_repo(repo, Message("first"))
    create_token(opened, "operator", "admin")
    yield opened
    opened.close()


@pytest.fixture
def web(vault: LocalVault) -> Iterator[TestClient]:
    with TestClient(create_app(vault), base_url="http://localhost") as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def status(web: TestClient, secret: str) -> int:
    return web.get("/v1/repos", headers=bearer(secret)).status_code


def run(*words: str | Path, token: str | None = None) -> click.testing.Result:
    env = {"WEIGHTVAULT_TOKEN": token} if token else {}
    return click.testing.CliRunner().invoke(cli, list(map(str, words)), env=env)


def age(vault: LocalVault, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Lets time go by, as the server sees it."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + seconds)


def test_a_role_in_each_of_several_namespaces(web: TestClient, vault: LocalVault, tmp_path: Path):
    secret = make_token(vault, "me", {"acme": "write", "lab": "read"}).secret
    listed = web.get("/v1/repos", headers=bearer(secret)).json()
    assert {repo["name"] for repo in listed} == {"acme/x", "lab/x"}
    for repo, expected in (("acme/x", 200), ("lab/x", 403), ("other/x", 404)):
        branch = f"/api/models/{repo}/branch/dev"
        assert web.post(branch, json={}, headers=bearer(secret)).status_code == expected
    folder = write_model(tmp_path / "model", make_weights(1))
    with serving(create_app(vault)) as url:
        assert run("--vault", url, "push", folder, "acme/y", token=secret).exit_code == 0
        assert run("--vault", url, "push", folder, "lab/y", token=secret).exit_code == 9
        assert run("--vault", url, "push", folder, "other/y", token=secret).exit_code == 9
        assert run("--vault", url, "pull", "acme/y", tmp_path / "copy", token=secret).exit_code == 0


def test_what_one_namespace_sent_is_not_known_to_another(vault: LocalVault, tmp_path: Path):
    """A token of two namespaces shares no record of what was sent with a token of one of them."""
    one = callers.principal_of(["acme"])
    both = callers.principal_of(["lab", "acme"])
    many = callers.principal_of([f"namespace-{number}" for number in range(50)])
    assert len({one, both, many}) == 3
    assert both == callers.principal_of(["acme", "lab"])
    assert max(map(len, (one, both, many))) <= 100


def test_a_token_expires(web: TestClient, vault: LocalVault, monkeypatch: pytest.MonkeyPatch):
    made = make_token(vault, "me", {"acme": "write"}, lifetime_seconds=3600)
    assert status(web, made.secret) == 200
    web.post("/-/sign-in", data={"token": made.secret})
    assert web.get("/acme/x").status_code == 200
    xet = web.get("/api/models/acme/x/xet-write-token/main", headers=bearer(made.secret)).json()
    age(vault, monkeypatch, 3601)
    assert status(web, made.secret) == 401
    assert recognise(vault, made.secret) is None
    assert web.get("/acme/x").status_code == 404
    headers = bearer(xet["accessToken"])
    grant = f"{xet['casUrl']}/v1/xorb-grants/default/{'a' * 64}"
    assert web.post(grant, json={}, headers=headers).status_code == 401
    with pytest.raises(Missing):
        rotate_token(vault, "me", 0)


def test_rotation_gives_another_secret_and_ends_the_old_one(
    web: TestClient, vault: LocalVault, monkeypatch: pytest.MonkeyPatch
):
    old = make_token(vault, "me", {"acme": "write", "lab": "read"}, lifetime_seconds=90 * 86_400)
    done = rotate_token(vault, "me", 600)
    assert done.new.row.roles == old.row.roles
    assert done.new.secret != old.secret
    assert status(web, old.secret) == status(web, done.new.secret) == 200
    with pytest.raises(InvalidInput, match="2 valid tokens"):
        rotate_token(vault, "me", 600)
    age(vault, monkeypatch, 601)
    assert status(web, old.secret) == 401
    assert status(web, done.new.secret) == 200
    again = rotate_token(vault, "me", 0)
    assert status(web, done.new.secret) == 401
    assert status(web, again.new.secret) == 200


def test_what_ended_stays_ended_in_a_catalogue_that_is_built_anew(
    vault: LocalVault, tmp_path: Path
):
    kept = make_token(vault, "kept", {"acme": "write", "lab": "read"}, lifetime_seconds=1e6)
    gone = make_token(vault, "gone", {"*": "admin"}, lifetime_seconds=1e6)
    old = make_token(vault, "old", {"acme": "read"})
    rotate_token(vault, "old", 0)
    revoke_token(vault, "gone")
    before = list_tokens(vault.catalogue)
    rebuild_catalogue(vault.backend, vault.catalogue)
    assert list_tokens(vault.catalogue) == before
    other = open_anew(tmp_path / "served")
    assert list_tokens(other.catalogue) == before
    assert recognise(other, kept.secret) == kept.row
    assert recognise(other, gone.secret) is None
    assert recognise(other, old.secret) is None
    other.close()


def test_an_entry_that_comes_late_brings_no_token_back(vault: LocalVault):
    """Two machines, of which one learns of a revocation before it learns of what came before."""
    made = make_token(vault, "me", {"acme": "write"}, lifetime_seconds=1e6)
    revoke_token(vault, made.row.id)
    for late in (made.row, replace(made.row, expires=None), replace(made.row, expires=1e12)):
        vault.record(TokenChange(late, time.time()))
        assert recognise(vault, made.secret) is None
    rebuild_catalogue(vault.backend, vault.catalogue)
    assert recognise(vault, made.secret) is None


# Their owners


def names(web: TestClient, secret: str) -> set[str]:
    answer = web.get("/v1/tokens", headers=bearer(secret))
    assert answer.status_code == 200
    assert not {"hash", "secret", "token"} & set().union(*answer.json())
    return {info["id"] for info in answer.json()}


def test_who_may_list_and_revoke_which_tokens(web: TestClient, vault: LocalVault):
    mine = make_token(vault, "ann", {"acme": "write"})
    weak = make_token(vault, "ann", {"acme": "read"})
    strong = make_token(vault, "ann", {"*": "read"})
    other = make_token(vault, "bob", {"acme": "read"})
    foreign = make_token(vault, "ann", {"lab": "read"})
    head = make_token(vault, "head", {"acme": "admin"})
    root = make_token(vault, "root", {"*": "admin"})
    everything = {row.id for row in list_tokens(vault.catalogue)}
    of_acme = {made.row.id for made in (mine, weak, other, head)}
    assert names(web, mine.secret) == {mine.row.id, weak.row.id}
    assert names(web, weak.secret) == {weak.row.id}
    assert names(web, head.secret) == of_acme
    assert names(web, root.secret) == everything
    assert web.get("/v1/tokens").status_code == 401

    def revoke(secret: str, token: str) -> int:
        return web.delete(f"/v1/tokens/{token}", headers=bearer(secret)).status_code

    for token in (strong, other, foreign, head, root):
        assert revoke(mine.secret, token.row.id) == 404
    assert revoke(weak.secret, mine.row.id) == 404
    assert revoke(mine.secret, "ann") == 422
    assert revoke(mine.secret, weak.row.id) == 204
    assert revoke(mine.secret, weak.row.id) == 404
    assert status(web, weak.secret) == 401
    assert revoke(head.secret, other.row.id) == 204
    assert revoke(head.secret, foreign.row.id) == 404
    assert revoke(root.secret, strong.row.id) == 204
    assert revoke(mine.secret, mine.row.id) == 204
    assert status(web, mine.secret) == 401
    assert web.delete(f"/v1/tokens/{head.row.id}").status_code == 401


def test_the_commands_against_a_server(vault: LocalVault):
    mine = make_token(vault, "ann", {"acme": "write", "lab": "read"}, lifetime_seconds=86_400)
    spare = make_token(vault, "ann", {"acme": "read"})
    create_token(vault, "bob", "read", "acme")
    with serving(create_app(vault)) as url:
        listed = run("--vault", url, "token", "list", token=mine.secret)
        assert listed.exit_code == 0, listed.output
        assert "write in acme, read in lab" in listed.stdout
        assert "bob" not in listed.stdout
        assert run("--vault", url, "token", "revoke", "bob", token=mine.secret).exit_code == 3
        gone = run("--vault", url, "--json", "token", "revoke", spare.row.id, token=mine.secret)
        assert json.loads(gone.stdout) == {"revoked": [spare.row.id]}
        assert run("--vault", url, "token", "revoke", "ann", token=mine.secret).exit_code == 0
        assert run("--vault", url, "token", "list", token=mine.secret).exit_code == 9
        assert run("--vault", url, "token", "list").exit_code == 9


def test_the_last_use_is_known_to_the_hour(
    web: TestClient, vault: LocalVault, monkeypatch: pytest.MonkeyPatch
):
    made = make_token(vault, "ann", {"acme": "read"})
    entries = len([*vault.backend.list("journal/")])

    def used() -> float | None:
        found = web.get("/v1/tokens", headers=bearer(made.secret)).json()
        return {info["id"]: info["last_used"] for info in found}[made.row.id]

    first = used()
    assert first is not None
    assert used() == first
    age(vault, monkeypatch, callers.USE_SECONDS / 2)
    assert used() == first
    age(vault, monkeypatch, callers.USE_SECONDS + 1)
    assert (used() or 0.0) >= first + callers.USE_SECONDS
    assert len([*vault.backend.list("journal/")]) == entries


# What they look like, and what is kept of them


def test_new_tokens_are_ones_that_all_clients_send(vault: LocalVault, tmp_path: Path):
    assert NEW_SECRET.fullmatch(create_token(vault, "me", "read").secret)
    assert len({create_token(vault, "me", "read").secret for _ in range(20)}) == 20
    made = run(
        *("--vault", tmp_path / "served", "token", "create", "--name", "me"),
        *("--namespace", "acme=write", "--namespace", "lab=read", "--expires", "90d"),
    )
    assert made.exit_code == 0, made.output
    assert NEW_SECRET.fullmatch(made.stdout.strip())
    row = list_tokens(vault.catalogue)[-1]
    assert row.roles == (("acme", "write"), ("lab", "read"))
    assert row.expires == pytest.approx(row.created + 90 * 86_400)


def test_tokens_of_before_go_on_working(web: TestClient, vault: LocalVault):
    secret = "wv_" + "x" * 43
    outline = {
        "version": 1,
        "created": 1.0,
        "token": {
            "id": "0123abcd",
            "name": "old",
            "hash": hash_token(secret).hex(),
            "role": "write",
            "namespace": "acme",
            "created": 1.0,
            "revoked": None,
        },
    }
    data = json.dumps(outline, separators=(",", ":"), sort_keys=True).encode()
    row = TokenRow("0123abcd", "old", hash_token(secret), (("acme", "write"),), 1.0)
    key, packed = pack_entry(TokenChange(row, 1.0))
    # But for what it follows, an entry of such a token is what it was.
    assert json.loads(packed) == {"after": [], **outline}
    old_key = f"{key.rpartition('-')[0]}-{blake3(data).hexdigest()[:16]}"
    assert parse_entry(old_key, data) == TokenChange(row, 1.0)
    vault.record(TokenChange(row, 1.0))
    assert status(web, secret) == 200
    assert web.post("/api/models/acme/x/branch/b", json={}, headers=bearer(secret)).is_success


def test_an_entry_that_older_programs_would_misread_is_one_that_they_refuse():
    """They would take a token that expires for one that does not."""
    for row in (
        TokenRow("1", "a", bytes(32), (("acme", "write"),), 1.0, expires=2.0),
        TokenRow("1", "a", bytes(32), (("acme", "write"), ("lab", "read")), 1.0),
    ):
        key, data = pack_entry(TokenChange(row, 1.0))
        assert json.loads(data)["version"] == 2
        assert parse_entry(key, data) == TokenChange(row, 1.0)


@pytest.mark.parametrize(
    "change",
    [
        {"roles": {"acme": "owner"}},
        {"roles": {"a/b": "read"}},
        {"roles": ["acme"]},
        {"roles": {"acme": None}},
        {"expires": "never"},
    ],
    ids=str,
)
def test_a_damaged_entry_makes_no_token(change: dict[str, object]):
    from blake3 import blake3

    row = TokenRow("1", "a", bytes(32), (("acme", "write"),), 1.0, expires=2.0)
    outline = json.loads(pack_entry(TokenChange(row, 1.0))[1])
    outline["token"] |= change
    data = json.dumps(outline).encode()
    key = f"journal/{1_000_000:016x}-{blake3(data).hexdigest()[:16]}"
    with pytest.raises(VaultError):
        parse_entry(key, data)


def test_what_no_token_may_be(vault: LocalVault):
    for roles in ({}, {"acme": "owner"}):
        with pytest.raises(InvalidInput):
            make_token(vault, "me", roles)
    for namespace in ("datasets", "a/b", "", "a b", "acme="):
        with pytest.raises(InvalidName):
            make_token(vault, "me", {namespace: "read"})


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--namespace", "acme"),
        ("--namespace", "acme=owner"),
        ("--namespace", "acme=read", "--namespace", "acme=write"),
        ("--role", "read", "--expires", "90"),
        ("--role", "read", "--expires", "-1d"),
    ],
    ids=str,
)
def test_a_command_that_does_not_say_what_a_token_may(tmp_path: Path, words: tuple[str, ...]):
    made = run("--vault", tmp_path / "new", "token", "create", "--name", "me", *words)
    assert made.exit_code == 2, made.output
