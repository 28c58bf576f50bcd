"""The hub's API at the level of requests: what clients check, and what attackers send."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from hub_bodies import REPO, commit, file, lfs_file, lines, send
from hub_clients import Hub
from models import bf16_file, make_weights

from weightvault.store.object_keys import pack_key

WEIGHTS = bf16_file(make_weights(1))


# Reading


def test_headers_of_files(web: TestClient):
    send(web, WEIGHTS)
    oid = commit(web, file("a/b c.txt", b"text"), lfs_file("w.safetensors", WEIGHTS)).json()[
        "commitOid"
    ]
    head = web.head("/me/model/resolve/main/a/b%20c.txt")
    assert head.headers["x-repo-commit"] == oid
    assert head.headers["etag"] == f'"{hashlib.sha1(b"blob 4" + bytes(1) + b"text").hexdigest()}"'
    assert head.headers["content-length"] == "4"
    assert head.headers["accept-ranges"] == "bytes"
    assert "x-linked-etag" not in head.headers
    head = web.head("/me/model/resolve/main/w.safetensors")
    assert head.headers["x-linked-etag"] == f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
    assert head.headers["x-linked-size"] == str(len(WEIGHTS))
    assert web.get(f"/me/model/resolve/{oid}/w.safetensors").content == WEIGHTS


@pytest.mark.parametrize(
    ("asked", "status", "found"),
    [
        ("bytes=5-9", 206, slice(5, 10)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=100-99999999", 206, slice(100, None)),
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=99999999-", 416, None),
        ("lines=1-2", 200, slice(None)),
    ],
)
def test_ranges(web: TestClient, asked: str, status: int, found: slice | None):
    send(web, WEIGHTS)
    commit(web, lfs_file("w.safetensors", WEIGHTS))
    answer = web.get("/me/model/resolve/main/w.safetensors", headers={"Range": asked})
    assert answer.status_code == status
    if found is None:
        assert answer.headers["content-range"] == f"bytes */{len(WEIGHTS)}"
    else:
        assert answer.content == WEIGHTS[found]
    if status == 206:
        start, stop, _ = found.indices(len(WEIGHTS)) if found else (0, 0, 0)
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(WEIGHTS)}"


def test_a_branch_with_a_slash_is_one_part_of_the_path(web: TestClient):
    web.post(f"{REPO}/branch/dev%2Fx", json={})
    commit(web, file("main.txt", b"main"))
    answer = web.post(f"{REPO}/commit/dev%2Fx", content=lines(file("x.txt", b"x")))
    assert answer.status_code == 200
    assert web.get("/me/model/resolve/dev%2Fx/x.txt").content == b"x"
    assert web.get("/me/model/resolve/dev/x/x.txt").status_code == 404
    assert web.get("/me/model/resolve/refs%2Fheads%2Fdev%2Fx/x.txt").content == b"x"
    names = [entry["path"] for entry in web.get(f"{REPO}/tree/dev%2Fx").json()]
    assert names == ["x.txt"]


def test_listings_come_in_pages(web: TestClient):
    commit(web, *(file(f"d/{i:03}.txt", b"x") for i in range(25)), file("top.txt", b"y"))
    seen: list[str] = []
    url = f"{REPO}/tree/main?recursive=true&limit=10"
    pages = 0
    while url:
        answer = web.get(url)
        seen += [entry["path"] for entry in answer.json()]
        url = answer.links.get("next", {}).get("url", "")
        assert not url or url.startswith("http://hub/api/")
        pages += 1
    assert seen == ["d", *(f"d/{i:03}.txt" for i in range(25)), "top.txt"]
    assert pages == 3
    folder = web.get(f"{REPO}/tree/main/d").json()
    assert len(folder) == 25
    assert web.get(f"{REPO}/tree/main/none").headers["x-error-code"] == "EntryNotFound"


def test_trees_have_the_hashes_that_git_gives(web: TestClient, tmp_path: Path):
    import subprocess

    contents = {"b.txt": b"b", "a/x.txt": b"x", "a/y.txt": b"", "a-b.txt": b"1", "a.d/z": b"z"}
    commit(web, *(file(path, data) for path, data in contents.items()))
    repo = tmp_path / "git"
    for path, data in contents.items():
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / path).write_bytes(data)
    for arguments in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *arguments], cwd=repo, check=True)
    tree = subprocess.run(
        ["git", "write-tree"], cwd=repo, check=True, capture_output=True, text=True
    )
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "-t", tree.stdout.strip()],
        cwd=repo,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    expected = {line.split("\t")[1]: line.split()[2] for line in listed}
    found = web.get(f"{REPO}/tree/main?recursive=true").json()
    assert {entry["path"]: entry["oid"] for entry in found} == expected


def test_paths_info_takes_forms_and_json(web: TestClient):
    commit(web, file("a.txt", b"a"), file("d/b.txt", b"b"))
    wanted = ["a.txt", "d", "none"]
    form = web.post(f"{REPO}/paths-info/main", data={"paths": wanted, "expand": "False"})
    as_json = web.post(f"{REPO}/paths-info/main", json={"paths": wanted, "expand": True})
    assert [entry["path"] for entry in form.json()] == ["a.txt", "d"]
    assert [entry["path"] for entry in as_json.json()] == ["a.txt", "d"]
    assert as_json.json()[0]["lastCommit"]["title"] == "title"


# Errors


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/models/me/none", 404, "RepoNotFound"),
        ("/api/models/me/none/tree/main", 404, "RepoNotFound"),
        ("/api/datasets/me/model", 404, "RepoNotFound"),
        ("/me/none/resolve/main/x", 404, "RepoNotFound"),
        (f"{REPO}/revision/none", 404, "RevisionNotFound"),
        ("/me/model/resolve/none/x", 404, "RevisionNotFound"),
        ("/me/model/resolve/main/none", 404, "EntryNotFound"),
        ("/me/model/resolve/main/..%2F..%2Fetc%2Fpasswd", 404, "EntryNotFound"),
        ("/api/models/gpt2", 404, "RepoNotFound"),
        ("/api/models/gpt2/revision/main", 404, "RepoNotFound"),
        ("/api/datasets/squad/tree/main/x", 404, "RepoNotFound"),
        ("/gpt2/resolve/main/config.json", 404, "RepoNotFound"),
        ("/gpt2/raw/main/config.json", 404, "RepoNotFound"),
        ("/datasets/squad/resolve/main/x", 404, "RepoNotFound"),
        ("/api/models/gpt2/xet-read-token/main", 404, "RepoNotFound"),
        ("/gpt2.git/info/lfs/locks", 404, "RepoNotFound"),
        ("/api/nothing/here", 404, None),
        (f"{REPO}/commit/main", 404, None),
    ],
)
def test_errors_have_codes(web: TestClient, path: str, status: int, code: str | None):
    answer = web.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers.get("x-error-code") == code
    assert answer.headers["x-error-message"]
    assert answer.json()["error"]


def test_a_missing_file_tells_the_commit(web: TestClient):
    head = web.get(f"{REPO}/revision/main").json()["sha"]
    answer = web.head("/me/model/resolve/main/none")
    assert answer.headers["x-repo-commit"] == head


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"not json\n",
        b'{"key": "file"}\n',
        lines(("file", {"path": "x", "encoding": "base64", "content": "!!!"})),
        lines(("file", {"path": "../x", "content": "x"})),
        lines(("file", {"path": "/x", "content": "x"})),
        lines(("file", {"content": "x"})),
        lines(("lfsFile", {"path": "x", "oid": "zz"})),
        lines(("lfsFile", {"path": "x", "oid": "a" * 64, "size": 3})),
        lines(("unheardOf", {"path": "x"})),
        lines(file("a", b"1"), file("a/b", b"2")),
        lines(file("x", b"1"), parentCommit="main"),
    ],
)
def test_hostile_commits_are_refused(web: TestClient, body: bytes):
    answer = web.post(f"{REPO}/commit/main", content=body)
    if body == b"":
        # No change at all: the branch stays where it is.
        assert answer.status_code == 200
    else:
        assert answer.status_code in (400, 422), answer.text
    assert web.get(f"{REPO}/tree/main").json() == []


def test_a_stale_parent_is_412_and_a_missing_file_404(web: TestClient):
    old = web.get(f"{REPO}/revision/main").json()["sha"]
    commit(web, file("a", b"1"))
    assert commit(web, file("a", b"2"), parentCommit=old).status_code == 412
    answer = commit(web, ("deletedFile", {"path": "none"}))
    assert (answer.status_code, answer.headers["x-error-code"]) == (404, "EntryNotFound")
    assert "A file with this name doesn't exist" in answer.json()["error"]


def test_the_same_commit_again_is_the_same(web: TestClient):
    operations = (file("a", b"1"), file("b", b"2"))
    first = commit(web, *operations).json()["commitOid"]
    assert commit(web, *operations).json()["commitOid"] == first
    assert len(web.get(f"{REPO}/commits/main").json()) == 2


# Uploads


def test_commits_are_told_with_markup_where_that_is_asked_for(web: TestClient):
    web.post(f"{REPO}/commit/main", content=lines(file("a", b"a"), title="a <b>"))
    for query in ("expand[]=formatted", "expand=formatted"):
        (line, _) = web.get(f"{REPO}/commits/main?{query}").json()
        assert line["formatted"] == {"title": "a &lt;b&gt;", "message": ""}
    assert "formatted" not in web.get(f"{REPO}/commits/main").json()[0]
    assert web.get(f"{REPO}/commits/main?expand=other").status_code == 400


def test_raw_is_what_git_has(web: TestClient):
    send(web, WEIGHTS)
    commit(web, file("README.md", b"# A"), lfs_file("w.safetensors", WEIGHTS))
    assert web.get("/me/model/raw/main/README.md").content == b"# A"
    pointer = web.get("/me/model/raw/main/w.safetensors")
    oid = hashlib.sha256(WEIGHTS).hexdigest()
    assert pointer.text == (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(WEIGHTS)}\n"
    )
    (line,) = (e for e in web.get(f"{REPO}/tree/main").json() if e["path"] == "w.safetensors")
    assert pointer.headers["etag"] == f'"{line["oid"]}"'
    assert line["lfs"]["pointerSize"] == len(pointer.content)
    head = web.head("/me/model/raw/main/w.safetensors")
    assert (head.content, head.headers["content-length"]) == (b"", str(len(pointer.content)))
    assert web.get("/me/model/resolve/main/w.safetensors").content == WEIGHTS


def test_head_is_the_default_branch_unless_a_branch_is_called_so(web: TestClient):
    oid = commit(web, file("a", b"a")).json()["commitOid"]
    assert web.get(f"{REPO}/revision/HEAD").json()["sha"] == oid
    assert web.get("/me/model/resolve/HEAD/a").content == b"a"
    assert web.get(f"/me/model/resolve/{oid[:7]}/a").content == b"a"
    assert web.post(f"{REPO}/branch/dev", json={"startingPoint": "HEAD"}).status_code == 200
    assert web.post(f"{REPO}/tag/HEAD", json={"tag": "t"}).status_code == 200
    found = [web.get(f"{REPO}/revision/{name}").json()["sha"] for name in ("dev", "t")]
    assert found == [oid, oid]
    assert web.post(f"{REPO}/commit/HEAD", content=lines(file("b", b"b"))).status_code == 200
    assert web.get("/me/model/resolve/main/b").content == b"b"
    web.post(f"{REPO}/branch/HEAD", json={})
    commit(web, file("a", b"b"))
    assert web.get("/me/model/resolve/HEAD/a").content == b"a"


def test_a_branch_is_written_over_where_that_is_asked_for(web: TestClient):
    first = commit(web, file("a", b"a")).json()["commitOid"]
    second = commit(web, file("a", b"b")).json()["commitOid"]
    made = [web.post(f"{REPO}/branch/dev", json={"startingPoint": first}).status_code]
    made.append(web.post(f"{REPO}/branch/dev", json={"startingPoint": second}).status_code)
    again = {"startingPoint": second, "overwrite": True}
    made.append(web.post(f"{REPO}/branch/dev", json=again).status_code)
    assert made == [200, 409, 200]
    assert web.get(f"{REPO}/revision/dev").json()["sha"] == second


def test_a_pull_request_is_for_a_branch(web: TestClient):
    oid = commit(web, file("a", b"a")).json()["commitOid"]
    body = lines(file("a", b"b"))
    for named in (oid, oid[:7], "none"):
        refused = web.post(f"{REPO}/commit/{named}?create_pr=1", content=body)
        assert (refused.status_code, refused.headers["x-error-code"]) == (404, "RevisionNotFound")
    assert web.post(f"{REPO}/commit/main?create_pr=1", content=body).status_code == 200
    # Some clients leave its slashes as they are.
    for named in ("refs%2Fpr%2F1", "refs/pr/1"):
        assert [x["path"] for x in web.get(f"{REPO}/tree/{named}").json()] == ["a"]
        assert web.get(f"/me/model/resolve/{named}/a").content == b"b"


def test_a_pull_request_may_be_opened_before_its_commits(web: TestClient):
    oid = commit(web, file("a", b"a")).json()["commitOid"]
    made = web.post(f"{REPO}/discussions", json={"title": "t", "pullRequest": True}).json()
    assert (made["num"], made["url"]) == (1, "http://hub/me/model/discussions/1")
    assert web.get(f"{REPO}/revision/refs%2Fpr%2F1").json()["sha"] == oid
    told = web.get(f"{REPO}/discussions/1?diff=1").json()
    assert told["changes"]["base"] == "refs/heads/main"
    assert web.post(f"{REPO}/discussions", json={"title": "t"}).status_code == 400
    for number in ("2", "x", "9" * 60, "%D9%A1"):
        assert web.get(f"{REPO}/discussions/{number}").status_code == 404


def test_the_trace_of_a_client_comes_back(web: TestClient):
    sent = {"X-Amzn-Trace-Id": "Root=1-67891233-abcdef"}
    assert web.get(REPO, headers=sent).headers["x-amzn-trace-id"] == sent["X-Amzn-Trace-Id"]
    assert "x-amzn-trace-id" not in web.get(REPO, headers={"X-Amzn-Trace-Id": "a b<c>"}).headers


def test_a_flipped_byte_is_never_served(hub: Hub, tmp_path: Path):
    with httpx.Client(base_url=hub.url, trust_env=False) as web:
        web.post("/api/repos/create", json={"name": "model", "organization": "me"})
        send(web, WEIGHTS)  # type: ignore[arg-type]
        commit(web, lfs_file("w.safetensors", WEIGHTS))  # type: ignore[arg-type]
        digest = next(iter(hub.vault.resolve("me/model").manifest.digests()))
        place = hub.vault.catalogue.locate([digest])[digest]
        path = tmp_path / "served" / "objects" / pack_key(place.pack)
        pack = bytearray(path.read_bytes())
        pack[place.offset + place.frame_bytes - 1] ^= 1
        path.write_bytes(pack)
        try:
            answer = web.get("/me/model/resolve/main/w.safetensors")
            assert answer.status_code == 500
        except httpx.RemoteProtocolError:
            # It had begun: the connection breaks before the announced length.
            pass
