"""Squashed history, files that go for good, second repos of one, lists of one's own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hub_bodies import REPO, commit, file, lfs_file, send
from upkeep import Clock, gc
from vaults import open_local

from weightvault.api.hub.reading import lfs_files
from weightvault.api.requests.settings import ServerSettings
from weightvault.api.requests.tokens import create_token
from weightvault.api.server.app import create_app
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance import rewriting
from weightvault.dedup.transfer.uploads import KEEP_SECONDS

WEIGHTS, MORE = b"weights" * 1000, b"more weights" * 1000


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[LocalVault]:
    vault = open_local(tmp_path / "served")
    yield vault
    vault.close()


@pytest.fixture
def web(vault: LocalVault) -> Iterator[TestClient]:
    with TestClient(create_app(vault, ServerSettings()), base_url="http://hub") as client:
        client.post("/api/repos/create", json={"name": "model", "organization": "me"})
        yield client


def titles(web: TestClient, revision: str) -> list[str]:
    return [each["title"] for each in web.get(f"{REPO}/commits/{revision}").json()]


def test_squashed_branch_has_one_commit_and_others_stay(web: TestClient):
    commit(web, file("a.txt", b"1"), title="one")
    commit(web, file("a.txt", b"2"), title="two")
    web.post(f"{REPO}/branch/dev", json={})
    before = web.get(f"{REPO}/tree/main").json()
    answer = web.post(f"{REPO}/super-squash/main", json={"message": "all of it"})
    assert answer.status_code == 200, answer.text
    assert titles(web, "main") == ["all of it"]
    assert titles(web, "dev") == ["two", "one", "initial commit"]
    assert web.get(f"{REPO}/tree/main").json() == before
    assert [b["name"] for b in web.get(f"{REPO}/refs").json()["branches"]] == ["dev", "main"]
    assert commit(web, file("b.txt", b"3"), title="three").status_code == 200
    assert titles(web, "main") == ["three", "all of it"]
    assert web.post(f"{REPO}/super-squash/none", json={}).status_code == 404


def test_lfs_files_are_listed_once_and_go_for_good(web: TestClient, vault: LocalVault):
    for content in (WEIGHTS, MORE):
        send(web, content)
    commit(web, lfs_file("a.bin", WEIGHTS), lfs_file("same.bin", WEIGHTS), file("t.txt", b"text"))
    web.post(f"{REPO}/branch/dev", json={})
    answer = commit(web, lfs_file("b.bin", MORE), branch="dev")
    assert answer.status_code == 200, answer.text
    listed = web.get(f"{REPO}/lfs-files").json()
    oids = [hashlib.sha256(content).hexdigest() for content in (WEIGHTS, MORE)]
    assert [(x["fileOid"], x["filename"], x["ref"], x["size"]) for x in listed] == [
        (oids[0], "a.bin", "refs/heads/main", len(WEIGHTS)),
        (oids[1], "b.bin", "refs/heads/dev", len(MORE)),
    ]
    old = web.get(f"{REPO}/revision/main").json()["sha"]
    web.post(f"{REPO}/tag/dev", json={"tag": "v1"})
    gone = {"deletions": {"sha": oids[:1], "rewriteHistory": True}}
    assert web.post(f"{REPO}/lfs-files/batch", json=gone).status_code == 409
    web.delete(f"{REPO}/tag/v1")
    answer = web.post(f"{REPO}/lfs-files/batch", json=gone)
    assert answer.status_code == 200, answer.text
    assert [x["filename"] for x in web.get(f"{REPO}/lfs-files").json()] == ["b.bin"]
    for branch, names in (("main", ["t.txt"]), ("dev", ["b.bin", "t.txt"])):
        tree = [x["path"] for x in web.get(f"{REPO}/tree/{branch}").json()]
        assert tree == [".gitattributes", *names]
    assert web.get(f"/me/model/resolve/{old}/a.bin").status_code == 404
    stored = sum(info.size for info in vault.backend.list("packs/"))
    clock = Clock()
    clock.ahead = KEEP_SECONDS
    gc(vault, now=clock)
    assert sum(info.size for info in vault.backend.list("packs/")) < stored
    assert web.get("/me/model/resolve/dev/b.bin").content == MORE


def test_what_many_branches_have_is_bounded(web: TestClient, monkeypatch: pytest.MonkeyPatch):
    for content in (WEIGHTS, MORE):
        send(web, content)
    commit(web, lfs_file("a.bin", WEIGHTS))
    web.post(f"{REPO}/branch/dev", json={})
    commit(web, lfs_file("b.bin", MORE), branch="dev")
    monkeypatch.setattr(lfs_files, "_MOST_LOOKED_AT", 1)
    assert [x["filename"] for x in web.get(f"{REPO}/lfs-files").json()] == ["a.bin"]
    monkeypatch.setattr(rewriting, "_MOST_BRANCHES", 1)
    asked = {"deletions": {"sha": [hashlib.sha256(WEIGHTS).hexdigest()]}}
    assert web.post(f"{REPO}/lfs-files/batch", json=asked).status_code == 413
    assert [x["path"] for x in web.get(f"{REPO}/tree/dev").json()][1:] == ["a.bin", "b.bin"]


@pytest.mark.parametrize(
    "body", [{}, {"deletions": {"sha": ["x"]}}, {"deletions": {"sha": [], "rewriteHistory": False}}]
)
def test_what_cannot_be_erased_is_refused(web: TestClient, body: dict):
    assert web.post(f"{REPO}/lfs-files/batch", json=body).status_code == 400


def test_duplicate_has_history_refs_and_bytes_and_no_readers(web: TestClient):
    commit(web, file("a.txt", b"1"), title="one")
    web.post(f"{REPO}/tag/main", json={"tag": "v1"})
    web.put(f"{REPO}/settings", json={"private": False})
    answer = web.post(f"{REPO}/duplicate", json={"repository": "you/copy"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["url"] == "http://hub/you/copy"
    copy = "/api/models/you/copy"
    assert web.get(f"{copy}/commits/main").json() == web.get(f"{REPO}/commits/main").json()
    assert web.get(f"{copy}/refs").json() == web.get(f"{REPO}/refs").json()
    assert web.get("/you/copy/resolve/v1/a.txt").content == b"1"
    assert web.get(copy).json()["private"]
    web.request("DELETE", "/api/repos/delete", json={"name": "model", "organization": "me"})
    assert web.get("/you/copy/resolve/main/a.txt").content == b"1"
    taken = web.post(f"{copy}/duplicate", json={"repository": "you/copy"})
    assert taken.status_code == 409
    assert web.post(f"{REPO}/duplicate", json={"repository": "you/b"}).status_code == 404


def test_list_of_own_repos_has_those_of_the_token(web: TestClient, vault: LocalVault):
    web.post("/api/repos/create", json={"name": "d", "organization": "you", "type": "dataset"})
    own = create_token(vault, "me", "write", "me").secret
    web.headers["Authorization"] = f"Bearer {own}"
    (line,) = web.get("/api/settings/repositories").json()
    assert (line["id"], line["type"], line["visibility"]) == ("me/model", "model", "private")
    assert (line["storage"] > 0, line["storagePercent"]) == (True, 100.0)
    assert web.get("/api/organizations/you/settings/repositories").json() == []
    assert len(web.get("/api/organizations/me/settings/repositories").json()) == 1
