"""Who may do what: with every kind of token, without one, and before there is any."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from live_server import serving as live_server
from models import make_weights, read_folder, tune, write_model
from vaults import open_local

from weightvault.api.cli.main import cli
from weightvault.api.requests.settings import ServerSettings
from weightvault.api.requests.tokens import create_token, recognise, revoke_token
from weightvault.api.server.app import create_app
from weightvault.dedup.errors import InvalidName, Missing
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.refs import History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.store.catalogue.owners import choose_sharing

MINE, OTHERS, PUBLIC = "me/model", "you/model", "you/open"
ROLES = ("read", "write", "admin")


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[LocalVault]:
    opened = open_local(tmp_path / "served")
    history = History(opened, IncomingFiles(opened))
    for repo in (MINE, OTHERS, PUBLIC):
        history.create_repo(repo, Message("initial commit"), public=repo == PUBLIC)
    yield opened
    opened.close()


@contextmanager
def serving(vault: LocalVault, reads: str = "none") -> Iterator[TestClient]:
    with TestClient(create_app(vault, ServerSettings(anonymous_reads=reads))) as web:
        yield web


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def seen(web: TestClient, headers: dict[str, str]) -> set[str]:
    """What a caller sees, the same by whatever way they look."""
    repos = (MINE, OTHERS, PUBLIC)
    found = {r for r in repos if web.get(f"/api/models/{r}", headers=headers).status_code == 200}
    listed = {repo["id"] for repo in web.get("/api/models", headers=headers).json()}
    native = {r for r in repos if web.get(f"/v1/repos/{r}", headers=headers).status_code == 200}
    named = {repo["name"] for repo in web.get("/v1/repos", headers=headers).json()}
    pages = {r for r in repos if web.get(f"/{r}", headers=headers).status_code == 200}
    assert found == listed == native == named == pages
    return found


def test_without_any_token_everybody_may_do_everything(vault: LocalVault):
    with serving(vault) as web:
        assert seen(web, {}) == seen(web, bearer("anything")) == {MINE, OTHERS, PUBLIC}
        assert web.get("/v1/report").status_code == 200
        assert web.get("/").status_code == 200
        asked = {"name": "new", "organization": "anybody"}
        assert web.post("/api/repos/create", json=asked).status_code == 200
        create_token(vault, "first", "read")
        assert seen(web, {}) == set()
        assert web.get("/v1/report").status_code == 401


def test_the_last_token_revoked_opens_nothing(vault: LocalVault):
    token = create_token(vault, "only", "admin")
    with serving(vault) as web:
        assert seen(web, bearer(token.secret)) == {MINE, OTHERS, PUBLIC}
        revoke_token(vault, "only")
        assert web.get("/api/models", headers=bearer(token.secret)).status_code == 401
        assert seen(web, {}) == set()
    rebuild_catalogue(vault.backend, vault.catalogue)
    with serving(vault) as web:
        assert web.get("/api/models", headers=bearer(token.secret)).status_code == 401
        assert seen(web, {}) == set()


@pytest.mark.parametrize(
    ("reads", "expected"),
    [("none", set()), ("public", {PUBLIC}), ("all", {MINE, OTHERS, PUBLIC})],
)
def test_what_anonymous_callers_read(vault: LocalVault, reads: str, expected: set[str]):
    create_token(vault, "some", "admin")
    with serving(vault, reads) as web:
        assert seen(web, {}) == expected
        body = {"name": "new", "organization": "me"}
        assert web.post("/api/repos/create", json=body).status_code == 401
        for repo in (MINE, PUBLIC):
            assert web.delete(f"/v1/repos/{repo}").status_code in (401, 404)
        assert web.get("/api/whoami-v2").status_code == 401


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("namespace", [None, "me"])
def test_what_tokens_read(vault: LocalVault, role: str, namespace: str | None):
    token = create_token(vault, "name", role, namespace).secret
    with serving(vault) as web:
        expected = {MINE, PUBLIC} if namespace else {MINE, OTHERS, PUBLIC}
        assert seen(web, bearer(token)) == expected
        password = base64.b64encode(f"anyone:{token}".encode()).decode()
        basic = {"Authorization": f"Basic {password}"}
        batch = {"operation": "download", "objects": []}
        for repo in (MINE, OTHERS, PUBLIC):
            answer = web.post(f"/{repo}.git/info/lfs/objects/batch", json=batch, headers=basic)
            assert answer.status_code == (200 if repo in expected else 404)
            for path in (f"/api/models/{repo}", f"/v1/repos/{repo}", f"/{repo}"):
                assert web.get(path, headers=basic).status_code == 401
        who = web.get("/api/whoami-v2", headers=bearer(token)).json()
        assert who["name"] == (namespace or "name")
        assert who["auth"]["accessToken"]["role"] == role
        assert web.get("/v1/report", headers=bearer(token)).status_code == (
            403 if namespace else 200
        )


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("namespace", [None, "me"])
def test_what_tokens_change(vault: LocalVault, role: str, namespace: str | None):
    token = bearer(create_token(vault, "name", role, namespace).secret)
    writes = role != "read"
    with serving(vault) as web:

        def status(repo: str) -> int:
            branch = f"/api/models/{repo}/branch/dev"
            return web.post(branch, json={}, headers=token).status_code

        assert status(MINE) == (200 if writes else 403)
        assert status(OTHERS) == (404 if namespace else 200 if writes else 403)
        assert status(PUBLIC) == (403 if namespace or not writes else 200)
        for owner in ("me", "you"):
            body = {"name": f"new-{role}", "organization": owner}
            allowed = writes and namespace in (None, owner)
            answer = web.post("/api/repos/create", json=body, headers=token)
            assert answer.status_code == (200 if allowed else 403), answer.text
        native = web.post("/v1/missing", json={"digests": []}, headers=token)
        assert native.status_code == (200 if writes else 403)
        optimised = web.post("/v1/jobs", json={"kind": "optimise"}, headers=token)
        assert optimised.status_code == (202 if writes and namespace is None else 403)
        for repo in (MINE, "me/none", OTHERS, "you/none", PUBLIC):
            allowed = writes and (namespace is None or repo.startswith("me/"))
            for commit in ("commits/check", "commits"):
                answer = web.post(f"/v1/repos/{repo}/{commit}", content=b"none", headers=token)
                expected = 403 if not allowed else 204 if commit.endswith("check") else 400
                assert answer.status_code == expected, answer.text
        batch = {"operation": "upload", "objects": [{"oid": "a" * 64, "size": 3}]}
        answer = web.post(f"/{MINE}.git/info/lfs/objects/batch", json=batch, headers=token)
        assert answer.status_code == (200 if writes else 403)


def test_a_wrong_token_is_told_so(vault: LocalVault):
    create_token(vault, "some", "admin")
    with serving(vault, "all") as web:
        for path in (
            "/api/whoami-v2",
            "/api/models",
            f"/api/models/{MINE}",
            f"/{MINE}/resolve/main/x",
        ):
            answer = web.get(path, headers=bearer("wv_wrong"))
            assert answer.status_code == 401
            assert answer.headers["x-error-message"] == (
                "Invalid credentials in Authorization header"
            )
        assert web.get("/v1/repos", headers=bearer("wv_wrong")).status_code == 401
        assert web.get("/v1/repos", headers={"Authorization": "Basic !!"}).status_code == 401


def test_pages_show_a_stranger_nothing(vault: LocalVault):
    create_token(vault, "some", "admin")
    with serving(vault) as web:
        front = web.get("/").text
        assert not [repo for repo in (MINE, OTHERS, PUBLIC) if repo in front]
        assert web.get(f"/{MINE}").status_code in (401, 404)
        assert web.get("/v1/report").headers["www-authenticate"].startswith("Bearer ")


def test_health_needs_no_token(vault: LocalVault):
    create_token(vault, "some", "admin")
    with serving(vault) as web:
        assert web.get("/health").status_code == 200


def test_files_of_others_are_not_to_be_named(vault: LocalVault):
    """A SHA-256 of what others hold brings nothing, by any way."""
    import hashlib
    import json

    content = b"x" * 2_000_000
    IncomingFiles(vault).add([content], OTHERS)
    token = bearer(create_token(vault, "name", "write", "me").secret)
    oid = hashlib.sha256(content).hexdigest()
    item = {"oid": oid, "size": len(content)}
    with serving(vault) as web:
        lfs = f"/{MINE}.git/info/lfs"
        (line,) = web.post(
            f"{lfs}/objects/batch", json={"operation": "upload", "objects": [item]}, headers=token
        ).json()["objects"]
        assert "actions" in line
        (line,) = web.post(
            f"{lfs}/objects/batch", json={"operation": "download", "objects": [item]}, headers=token
        ).json()["objects"]
        assert line["error"]["code"] == 404
        assert web.get(f"{lfs}/objects/{oid}", headers=token).status_code == 404
        assert web.post(f"{lfs}/verify", json=item, headers=token).status_code == 404
        lines = [
            {"key": "header", "value": {"summary": "steal"}},
            {"key": "lfsFile", "value": {"path": "x.bin", "algo": "sha256", **item}},
        ]
        body = "\n".join(map(json.dumps, lines))
        answer = web.post(f"/api/models/{MINE}/commit/main", content=body, headers=token)
        assert answer.status_code == 400


def test_only_a_hash_of_a_token_is_kept(vault: LocalVault, tmp_path: Path):
    made = create_token(vault, "name", "admin")
    assert recognise(vault, made.secret) == made.row
    kept = [p.read_bytes() for p in (tmp_path / "served").rglob("*") if p.is_file()]
    assert not any(made.secret.encode() in data for data in kept)


@pytest.mark.parametrize("name", ["", "a b", "-x", "a/b", "datasets", "é"])
def test_names_that_no_repo_could_have_are_refused(vault: LocalVault, name: str):
    with pytest.raises(InvalidName):
        create_token(vault, name, "read")
    with pytest.raises(InvalidName):
        create_token(vault, "name", "read", name)


def test_tokens_of_one_name_are_revoked_together(vault: LocalVault):
    first, second = (create_token(vault, "ci", "read") for _ in range(2))
    other = create_token(vault, "other", "read")
    assert {row.id for row in revoke_token(vault, "ci")} == {first.row.id, second.row.id}
    assert revoke_token(vault, other.row.id) == [other.row]
    with pytest.raises(Missing):
        revoke_token(vault, "ci")


def run(*arguments: str | Path, env: dict[str, str] | None = None):
    import click.testing

    return click.testing.CliRunner().invoke(cli, list(map(str, arguments)), env=env)


def test_the_verbs(tmp_path: Path):
    vault = ("--vault", tmp_path / "new")
    made = run(*vault, "token", "create", "--name", "ci", "--role", "write", "--namespace", "me")
    assert made.exit_code == 0, made.output
    assert made.stdout.startswith("hf_")
    listed = run(*vault, "token", "list")
    assert "ci" in listed.stdout
    assert made.stdout.strip() not in listed.stdout
    assert run(*vault, "token", "revoke", "ci").exit_code == 0
    assert run(*vault, "token", "revoke", "ci").exit_code == 3
    assert run(*vault, "token", "create", "--name", "ci", "--role", "owner").exit_code == 2
    assert run("--vault", "http://127.0.0.1:1", "token", "rotate", "ci").exit_code == 4
    assert run("--vault", "http://127.0.0.1:1", "token", "list").exit_code == 5


def test_pushing_with_a_token(vault: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):

    folder = write_model(tmp_path / "model", make_weights(1))
    secret = create_token(vault, "name", "write").secret
    with live_server(create_app(vault)) as url:
        refused = run("--vault", url, "push", folder, "me/pushed")
        assert refused.exit_code == 9
        assert "token" in refused.stderr
        env = {"WEIGHTVAULT_TOKEN": secret}
        pushed = run("--vault", url, "push", folder, "me/pushed", env=env)
        assert pushed.exit_code == 0, pushed.output
        pulled = run("--vault", url, "pull", "me/pushed", tmp_path / "copy", env=env)
        assert pulled.exit_code == 0, pulled.output
    assert (tmp_path / "copy/config.json").read_bytes() == (folder / "config.json").read_bytes()


def test_no_frame_of_another_owner_is_given_out(vault: LocalVault, tmp_path: Path):
    """A delta may be on a base that whoever reads the delta may not read."""
    shapes = {"a": (256, 96)}
    base = make_weights(1, shapes)
    push(vault, write_model(tmp_path / "base", base), OTHERS)
    mine = write_model(tmp_path / "mine", tune(base, 2))
    push(vault, mine, MINE)
    places = vault.catalogue.locate(list(vault.resolve(MINE).manifest.digests()))
    bases = {place.base for place in places.values()} - {None}
    assert bases
    # Otherwise such a delta is encoded again from the first token with a namespace on.
    with vault.catalogue.writing() as connection:
        choose_sharing(connection, "all")
    limited = create_token(vault, "limited", "read", "me").secret
    full = create_token(vault, "full", "read").secret
    with live_server(create_app(vault)) as url:
        pulled = run(
            *("--vault", url, "pull", MINE, tmp_path / "copy"), env={"WEIGHTVAULT_TOKEN": limited}
        )
        assert pulled.exit_code == 0, pulled.output
        body = {"digests": [digest.hex() for digest in bases if digest]}
        for secret, status in ((limited, 409), (full, 200)):
            answer = httpx.post(f"{url}/v1/repos/{MINE}/frames", json=body, headers=bearer(secret))
            assert answer.status_code == status
    assert read_folder(tmp_path / "copy") == read_folder(mine)
