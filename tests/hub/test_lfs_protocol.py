"""What git-lfs and the clients of the hub send and are sent, address by address."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hub_bodies import REPO, batch, commit, file, lfs_file, send
from models import bf16_file, make_weights

WEIGHTS = bf16_file(make_weights(1))


def test_what_is_there_is_not_asked_for(web: TestClient):
    send(web, WEIGHTS)
    assert "actions" not in batch(web, WEIGHTS)
    commit(web, lfs_file("w.safetensors", WEIGHTS), file("c.json", b"{}"))
    asked = [
        {"path": "w.safetensors", "size": len(WEIGHTS), "sample": ""},
        {"path": "c.json", "size": 2, "sample": ""},
        {"path": "large.txt", "size": 5_000_000, "sample": ""},
        {"path": "empty.bin", "size": 0, "sample": ""},
    ]
    files = web.post(f"{REPO}/preupload/main", json={"files": asked}).json()["files"]
    assert [f["uploadMode"] for f in files] == ["lfs", "regular", "lfs", "regular"]
    assert files[0]["oid"] == hashlib.sha256(WEIGHTS).hexdigest()
    assert files[1]["oid"] == hashlib.sha1(b"blob 2\0{}").hexdigest()
    assert "oid" not in files[2]


def test_another_repo_learns_nothing_of_it(web: TestClient):
    send(web, WEIGHTS)
    web.post("/api/repos/create", json={"name": "other", "organization": "me"})
    wanted = [{"oid": hashlib.sha256(WEIGHTS).hexdigest(), "size": len(WEIGHTS)}]
    for operation in ("upload", "download"):
        body = {"operation": operation, "objects": wanted}
        (line,) = web.post("/me/other.git/info/lfs/objects/batch", json=body).json()["objects"]
        assert ("actions" in line) == (operation == "upload")


def test_long_files_come_in_parts(web: TestClient):
    assert len(WEIGHTS) > 20_000
    action = batch(web, WEIGHTS, transfers=["basic", "multipart"])["actions"]["upload"]
    header = action["header"]
    size = int(header.pop("chunk_size"))
    assert len(header) == -(-len(WEIGHTS) // size)
    assert web.post(action["href"], json={}).status_code == 400
    for number, url in sorted(header.items(), reverse=True):
        start = (int(number) - 1) * size
        wrong = web.put(url, content=WEIGHTS[start : start + size - 1] + b"")
        if start + size <= len(WEIGHTS):
            assert wrong.status_code == 400
        assert web.put(url, content=WEIGHTS[start : start + size]).headers["etag"]
    done = {"oid": "", "parts": []}
    assert web.post(action["href"], json=done).status_code == 200
    assert web.post(action["href"], json=done).status_code == 200
    assert [k.key for k in web.app.state.vault.backend.list("uploads/")] == []  # type: ignore[attr-defined]
    commit(web, lfs_file("w.safetensors", WEIGHTS))
    assert web.get("/me/model/resolve/main/w.safetensors").content == WEIGHTS


def test_upload_addresses_are_good_for_one_thing(web: TestClient):
    href = batch(web, WEIGHTS)["actions"]["upload"]["href"]
    changed = bytearray(WEIGHTS)
    changed[-1] ^= 1
    assert web.put(href, content=bytes(changed)).status_code == 400
    assert web.put(href, content=WEIGHTS + b"x").status_code == 413
    assert web.put(href, content=WEIGHTS[:-1]).status_code == 400
    assert web.put(href[:-3] + "AAA", content=WEIGHTS).status_code == 403
    other = href.replace("me/model", "me/other")
    assert web.put(other, content=WEIGHTS).status_code == 403
    assert web.put(href.partition("?")[0], content=WEIGHTS).status_code == 403
    assert commit(web, lfs_file("w.safetensors", WEIGHTS)).status_code == 400
    assert web.put(href, content=WEIGHTS).status_code == 200
    verify = batch(web, b"other")["actions"]["verify"]["href"]
    sent = {"oid": hashlib.sha256(WEIGHTS).hexdigest(), "size": len(WEIGHTS)}
    assert web.post(verify, json=sent).status_code == 200
    assert web.post(verify, json=sent | {"size": 3}).status_code == 404


def test_upload_addresses_expire(web: TestClient, monkeypatch: pytest.MonkeyPatch):
    import time

    href = batch(web, WEIGHTS)["actions"]["upload"]["href"]
    hub = web.app.state.hub  # type: ignore[attr-defined]
    monkeypatch.setattr(hub.signer, "_now", lambda: time.time() + 25 * 3600)
    answer = web.put(href, content=WEIGHTS)
    assert answer.status_code == 403
    assert "expired" in answer.json()["error"]


@pytest.mark.parametrize(
    "objects",
    [None, [{}], [{"oid": 1, "size": 1}], [{"oid": "a" * 64, "size": True}], ["x"]],
)
def test_hostile_batches_are_refused(web: TestClient, objects: Any):
    body = {"operation": "upload", "objects": objects}
    assert web.post("/me/model.git/info/lfs/objects/batch", json=body).status_code == 422


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"operation": None}, 422),
        ({"operation": "remove"}, 422),
        ({"hash_algo": "sha512"}, 409),
        ({"objects": [{"oid": "a" * 64, "size": 1}] * 1001}, 413),
    ],
)
def test_batches_are_refused_as_git_lfs_has_it(
    web: TestClient, change: dict[str, Any], status: int
):
    body = {"operation": "upload", "objects": [], **change}
    answer = web.post("/me/model.git/info/lfs/objects/batch", json=body)
    assert answer.status_code == status
    assert answer.json()["message"]
    assert answer.headers["content-type"].startswith("application/vnd.git-lfs+json")


@pytest.mark.parametrize("operation", ["upload", "download"])
def test_one_wrong_object_of_a_batch_spoils_no_other(web: TestClient, operation: str):
    send(web, WEIGHTS)
    good = {"oid": hashlib.sha256(WEIGHTS).hexdigest(), "size": len(WEIGHTS)}
    wrong = [{"oid": "x", "size": 1}, {"oid": "a" * 64, "size": -1}, {"oid": "A" * 64, "size": 1}]
    body = {"operation": operation, "objects": [*wrong, good]}
    answer = web.post("/me/model.git/info/lfs/objects/batch", json=body).json()["objects"]
    assert [line.get("error", {}).get("code") for line in answer] == [422, 422, 422, None]
