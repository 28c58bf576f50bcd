"""Repos are found by the names they had, and by other capital letters; hidden ones are told by
neither."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hub_bodies import file, lines
from hub_clients import Hub
from vaults import open_local

from weightvault.api.requests.settings import ServerSettings
from weightvault.api.requests.tokens import create_token
from weightvault.api.server.app import create_app
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.rename_repo import rename_repo
from weightvault.dedup.transfer.refs import History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles

OID = "a" * 64


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[LocalVault]:
    made = open_local(tmp_path / "vault")
    yield made
    made.close()


def open_web(vault: LocalVault, secret: str | None = None, **settings) -> TestClient:
    app = create_app(vault, ServerSettings(**settings))
    web = TestClient(app, base_url="http://hub", follow_redirects=False)
    web.headers.update({"Authorization": f"Bearer {secret}"} if secret else {})
    return web


def make(vault: LocalVault, repo: str, *, public: bool = False) -> None:
    history = History(vault, IncomingFiles(vault))
    history.create_repo(repo, Message("initial commit"), public=public)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("/api/models/{}", "/api/models/{}"),
        ("/api/models/{}?blobs=true&x=%2F", "/api/models/{}?blobs=true&x=%2F"),
        ("/api/models/{}/tree/dev%2Fx/a%20b", "/api/models/{}/tree/dev%2Fx/a%20b"),
        ("/{}/resolve/main/me/model/x", "/{}/resolve/main/me/model/x"),
        ("/{}/raw/main/x", "/{}/raw/main/x"),
    ],
)
def test_old_names_lead_to_new_ones(vault: LocalVault, asked: str, found: str):
    make(vault, "api/models")
    rename_repo(vault, "api/models", "lab/new")
    with open_web(vault) as web:
        answer = web.get(asked.format("api/models"))
        assert answer.status_code == 307, answer.text
        assert answer.headers["location"] == found.format("lab/new")
        # A name that no repo had.
        assert web.get(asked.format("me/none")).status_code == 404


def test_git_lfs_is_led_to_the_new_name(vault: LocalVault):
    make(vault, "datasets/me/old")
    rename_repo(vault, "datasets/me/old", "datasets/me/new.git")
    with open_web(vault) as web:
        asked = {"operation": "upload", "objects": [{"oid": OID, "size": 1}]}
        answer = web.post("/datasets/me/old.git/info/lfs/objects/batch", json=asked)
        location = "/datasets/me/new.git.git/info/lfs/objects/batch"
        assert (answer.status_code, answer.headers.get("location")) == (307, location)
        assert web.post(location, json=asked).status_code == 200


def test_names_of_datasets_lead_to_datasets(vault: LocalVault):
    make(vault, "datasets/me/old")
    rename_repo(vault, "datasets/me/old", "datasets/lab/new")
    with open_web(vault, root_path="/hub") as web:
        head = web.head("/hub/datasets/me/old/resolve/main/x")
        assert head.headers["location"] == "/hub/datasets/lab/new/resolve/main/x"
        assert web.get("/hub/api/models/me/old").status_code == 404


def test_names_follow_a_repo_wherever_it_goes(vault: LocalVault):
    make(vault, "me/a")
    for old, new in (("me/a", "me/b"), ("me/b", "me/c")):
        rename_repo(vault, old, new)
    with open_web(vault) as web:
        for name in ("me/a", "me/b"):
            assert web.get(f"/api/models/{name}").headers["location"] == "/api/models/me/c"
        rename_repo(vault, "me/c", "me/a")
        assert web.get("/api/models/me/a").status_code == 200
        assert web.get("/api/models/me/c").headers["location"] == "/api/models/me/a"
        # Another repo of the name comes first.
        make(vault, "me/b")
        assert web.get("/api/models/me/b").json()["id"] == "me/b"
        vault.delete_repo("me/a")
        assert web.get("/api/models/me/c").status_code == 404


def test_capital_letters_lead_to_the_only_repo_of_the_namespace(vault: LocalVault):
    make(vault, "me/Llama-2")
    with open_web(vault) as web:
        answer = web.get("/api/models/me/llama-2/refs")
        assert (answer.status_code, answer.headers["location"]) == (
            307,
            "/api/models/me/Llama-2/refs",
        )
        web.follow_redirects = True
        body = lines(file("a", b"a"))
        assert web.post("/api/models/me/LLAMA-2/commit/main", content=body).status_code == 200
        assert web.get("/me/llama-2/resolve/main/a").content == b"a"
        assert web.get("/api/models/Me/Llama-2").status_code == 404
        assert web.get("/api/datasets/me/llama-2").status_code == 404
        make(vault, "me/LLAMA-2")
        assert web.get("/api/models/me/llama-2").status_code == 404


def test_names_tell_nobody_of_what_is_hidden(vault: LocalVault):
    """What a stranger is answered is the same with hidden repos and without."""
    for repo, public in (("me/Open", True), ("me/moved", True), ("me/Secret", False)):
        make(vault, repo, public=public)
    make(vault, "me/hidden")
    rename_repo(vault, "me/moved", "me/now")
    rename_repo(vault, "me/hidden", "me/Gone")
    secret = create_token(vault, "you", "write", "you").secret
    asked = [f"/api/models/me/{name}" for name in ("open", "OPEN", "moved", "secret", "hidden")]
    asked += [
        "/api/models/me/gone",
        "/me/open/resolve/main/x",
        f"/me/open.git/info/lfs/objects/{OID}",
    ]

    def answers() -> list[tuple[int, str | None]]:
        with open_web(vault, secret, anonymous_reads="public") as web:
            told = [web.get(path) for path in asked]
            return [(answer.status_code, answer.headers.get("location")) for answer in told]

    before = answers()
    assert before[0] == (307, "/api/models/me/Open")
    assert before[2] == (307, "/api/models/me/now")
    assert {status for status, _ in before[3:6]} == {404}
    for repo in ("me/open", "me/moved", "me/SECRET", "me/gone"):
        make(vault, repo)
    assert answers() == before


def test_a_stranger_without_a_token_is_told_as_before(start_hub: Callable[..., Hub]):
    hub = start_hub(anonymous_reads="public")
    hub.token()
    make(hub.vault, "me/old")
    rename_repo(hub.vault, "me/old", "me/new")
    with open_web(hub.vault, anonymous_reads="public") as web:
        assert web.get("/api/models/me/old").status_code == 401
        assert web.get("/api/models/me/NEW").status_code == 401
        History(hub.vault, IncomingFiles(hub.vault)).set_public("me/new", True)
        assert web.get("/api/models/me/old").status_code == 307
