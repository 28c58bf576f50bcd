"""What a repo's own files say of others: .gitattributes, .gitignore, and the metadata of cards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hub_bodies import REPO, commit, file
from vaults import open_local

from weightvault.api.hub.attributes import FIRST_ATTRIBUTES, is_lfs, parse_rules
from weightvault.api.hub.errors import HubError
from weightvault.api.hub.ignored import find_ignored
from weightvault.api.requests.settings import ServerSettings
from weightvault.api.server.app import create_app


@pytest.fixture
def web(tmp_path: Path) -> Iterator[TestClient]:
    vault = open_local(tmp_path / "served")
    with TestClient(create_app(vault, ServerSettings()), base_url="http://hub") as client:
        client.post("/api/repos/create", json={"name": "model", "organization": "me"})
        yield client
    vault.close()


def preupload(web: TestClient, *paths: str, **more: str) -> dict[str, dict]:
    body = {"files": [{"path": path, "size": 10} for path in paths], **more}
    answer = web.post(f"{REPO}/preupload/main", json=body)
    assert answer.status_code == 200, answer.text
    return {line["path"]: line for line in answer.json()["files"]}


@pytest.mark.parametrize(
    ("line", "yes", "no"),
    [
        ("*.png filter=lfs diff=lfs merge=lfs -text", ("a.png", "b/c.png"), ("png", "a.png.txt")),
        ("*.tar.gz2 filter=lfs", ("a.tar.gz2", "x.y.tar.gz2"), ("a.gz2",)),
        ("vocab.json filter=lfs", ("vocab.json", "a/vocab.json"), ("my-vocab.json",)),
        ("/a/b.txt filter=lfs", ("a/b.txt",), ("b.txt", "c/a/b.txt")),
        ("big/** filter=lfs", ("big/x", "big/y/z"), ("big", "not/big/x")),
        ("*.png filter=other", (), ("a.png",)),
        ("# *.png filter=lfs", (), ("a.png",)),
        ("*.png filter=lfs\n*.png -filter", (), ("a.png",)),
        ("*.png -filter\nkeep.png filter=lfs", ("keep.png",), ("a.png",)),
        ("[ab]*.png filter=lfs\n*a*b filter=lfs\n\n \n*.", (), ("a.png", "ab")),
    ],
)
def test_attributes_say_what_is_of_git_lfs(line: str, yes: tuple[str, ...], no: tuple[str, ...]):
    rules = parse_rules(line.encode())
    assert [path for path in (*yes, *no) if is_lfs(path, 10, rules)] == list(yes)
    assert not any(is_lfs(path, 0, rules) for path in yes)


def test_attributes_are_read_within_bounds():
    hostile = b"".join(b"*.%d filter=lfs\n" % n for n in range(200_000))
    rules = parse_rules(hostile + b"\xff" * 100_000)
    assert len(rules.endings) <= 1000
    assert not rules.names_lfs("." * 500 + "/" * 500 + "." * 24)


def test_new_repos_have_attributes_and_obey_them(web: TestClient):
    (line,) = web.get(f"{REPO}/tree/main").json()
    assert line["path"] == ".gitattributes"
    assert web.get("/me/model/resolve/main/.gitattributes").content == FIRST_ATTRIBUTES
    assert {x["uploadMode"] for x in preupload(web, "a.wasm", "b.zip").values()} == {"lfs"}
    assert preupload(web, "a.png")["a.png"]["uploadMode"] == "regular"
    commit(web, file("a.png", b"image data"))
    assert "lfs" not in web.post(f"{REPO}/paths-info/main", data={"paths": "a.png"}).json()[0]
    commit(web, file(".gitattributes", b"*.png filter=lfs diff=lfs merge=lfs -text"))
    told = preupload(web, "a.png", "a.wasm")
    assert told["a.png"]["uploadMode"] == "lfs"
    assert told["a.wasm"]["uploadMode"] == "regular"
    (line,) = web.post(f"{REPO}/paths-info/main", data={"paths": "a.png"}).json()
    head = web.head("/me/model/resolve/main/a.png")
    assert head.headers["etag"] == f'"{line["lfs"]["oid"]}"' == f'"{told["a.png"]["oid"]}"'
    assert web.get("/me/model/raw/main/a.png").text.startswith("version https://git-lfs")


def test_ignored_files_are_told_by_what_is_sent_or_stored(web: TestClient):
    def ignored(**more: str) -> set[str]:
        told = preupload(web, "a.txt", "b.log", "nested/c.bin", **more)
        return {path for path, line in told.items() if line["shouldIgnore"]}

    assert ignored() == set()
    assert ignored(gitIgnore="*.log\nnested/*\n") == {"b.log", "nested/c.bin"}
    assert ignored(gitIgnore="*.log\n!b.log\n\\\n!\n# a.txt") == set()
    commit(web, file(".gitignore", b"nested/*\n"))
    assert ignored() == {"nested/c.bin"}
    assert ignored(gitIgnore="a*") == {"a.txt"}


@pytest.mark.parametrize(
    "rules", ["*a*a*a*a*a*b\n" * 100, "**/**/**/**/x\n" * 100, "[!" * 30_000, "a" * 60_000]
)
def test_rules_that_would_take_long_leave_nothing_out(rules: str):
    assert find_ignored(rules, ["a" * 200, "a/" * 100 + "a"]) == set()


@pytest.mark.parametrize(("rules", "length"), [(5000, 1), (1500, 1000)])
def test_more_than_can_be_looked_at_is_refused(rules: int, length: int):
    with pytest.raises(HubError) as caught:
        find_ignored("*.log\n" * rules, [f"{n}/{'a' * length}" for n in range(300)])
    assert caught.value.status == 413


def test_a_long_gitignore_of_a_project_is_obeyed():
    paths = [f"checkpoints/epoch-{n}/model-{n:05}-of-00256.safetensors" for n in range(256)]
    rules = "".join(f"build-{n}/\n*.{n}\n" for n in range(150)) + "epoch-7/\n"
    assert find_ignored(rules, paths) == {paths[7]}


@pytest.mark.parametrize(
    ("card", "status", "errors", "warnings"),
    [
        ("---\nlicense: mit\n---\n", 200, "", ""),
        ("no metadata", 200, "", "empty or missing yaml metadata"),
        ("---\ntags: [a]\n---\n", 200, "", "no license"),
        ("---\nmodel-index: foo\n---\n", 400, '"model-index" must be an array', "license"),
        ("---\nmodel-index: [{name: m}]\n---\n", 400, "results", "license"),
        ("---\nmodel-index: [{results: []}]\n---\n", 400, "name", "license"),
        (
            "---\nlicense: mit\nmodel-index:\n- name: m\n  results:\n  - task: {type: t}\n"
            "    dataset: {type: d, name: D}\n    metrics: [{type: acc, value: 1}]\n---\n",
            200,
            "",
            "",
        ),
        (
            "---\nmodel-index:\n- name: m\n  results:\n  - task: {type: t}\n"
            "    dataset: {type: d}\n    metrics: [{type: acc}]\n---\n",
            400,
            "dataset.name",
            "license",
        ),
        ("---\nlicense: {a: b}\n---\n", 400, "license", ""),
        ("---\ntags: x\n---\n", 400, "tags", "license"),
    ],
)
def test_cards_are_judged(web: TestClient, card: str, status: int, errors: str, warnings: str):
    answer = web.post("/api/validate-yaml", json={"content": card, "repoType": "model"})
    assert answer.status_code == status
    for name, part in (("errors", errors), ("warnings", warnings)):
        said = " ".join(each["message"] for each in answer.json()[name])
        assert part in said
        assert bool(part) == bool(said)
