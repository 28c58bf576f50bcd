"""A hostile server, or whoever filled a repo, harms nobody who pulls."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from command import run
from fastapi.testclient import TestClient
from hostile_server import Liar, json_answer, lying, rename_files
from models import read_folder
from vaults import open_anew

from weightvault.api.client.http_vault import HttpVault
from weightvault.api.server.app import create_app
from weightvault.dedup.errors import InvalidInput, InvalidName, VaultError
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.files.manifest import Manifest, manifest_name, pack_manifest
from weightvault.dedup.model.journal_entries import commit_row
from weightvault.dedup.model.names import check_path
from weightvault.dedup.model.paths import check_new_path
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push

OBEYED = [
    ".git/config",
    ".git/hooks/post-checkout",
    "deep/down/.git/config",
    ".GIT/config",
    ".gIt/config",
    ".git./config",
    ".git . ./config",
    ".git::$INDEX_ALLOCATION/config",
    ".git:stream/config",
    "git~1/config",
    "GIT~1/config",
    ".g\u200cit/config",
    "\ufeff.git/config",
    ".git\ufe0f/config",
    "\uff0egit/config",
    ".ſsh/authorized_keys",
    ".hg/hgrc",
    ".svn/entries",
    ".jj/config",
    ".ssh/authorized_keys",
    ".SSH/config",
    ".gnupg/gpg.conf",
    ".aws/credentials",
    ".kube/config",
    ".docker/config.json",
    ".config/autostart/x.desktop",
    ".cache/huggingface/token",
    ".local/bin/ls",
    ".bashrc",
    ".profile",
    ".zshenv",
    ".envrc",
    ".netrc",
    ".pypirc",
    ".npmrc",
    ".gitconfig",
    ".gitmodules",
    ".vscode/tasks.json",
    ".idea/workspace.xml",
    ".husky/pre-commit",
    ".devcontainer/devcontainer.json",
    ".weightvault/0123456789abcdef",
]
DECEIVING = [
    "model\u202esrotasnetefas.exe",
    "a\u2066b\u2069.txt",
    "a\u200bb.txt",
    "a\u00adb.txt",
    "a\u2028b.txt",
    "a\x85b.txt",
    "a\x9b31mb.txt",
    "a\u3164b.txt",
    "a\U000e0041b.txt",
    "x" * 256,
    "ü" * 128,
    "folder/" + "y" * 300 + "/file",
]
FINE = [
    ".gitattributes",
    ".gitignore",
    "sub/.gitkeep",
    ".eval_results/x.yaml",
    ".github/workflows/ci.yml",
    ".hydra/config.yaml",
    "git/config",
    "a.git/b",
    "x" * 255,
    "ü" * 127,
    "Grüße 模型 🤗❤️.txt",
    "a b/c~1.txt",
]


def store_copies(vault: LocalVault, model: Path, paths: list[str]) -> Manifest:
    """Lets a repo have the card under many paths, as a vault of an older version may."""
    made = push(vault, model, "org/m")
    old = vault.resolve("org/m", made.commit.id).manifest
    card = old.file("README.md")
    assert card is not None
    files = [*old.files, *(replace(card, path=path) for path in paths)]
    manifest = replace(old, files=tuple(sorted(files, key=lambda file: file.path)))
    data = pack_manifest(manifest)
    row = commit_row("org/m", "main", manifest_name(data), made.commit.id, None)
    vault.record_commit(row, manifest, data)
    return manifest


def test_refused_paths_are_not_written(vault: LocalVault, model: Path, tmp_path: Path):
    paths = [*OBEYED, *DECEIVING]
    store_copies(vault, model, paths)
    dest = tmp_path / "dest"
    with pytest.raises(VaultError, match="does not write") as caught:
        pull(vault, "org/m", dest)
    assert ascii(min(paths)) in caught.value.message
    assert f"{len(paths) - 10} more" in caught.value.message
    assert "--skip-refused" in (caught.value.hint or "")
    assert not dest.exists()
    result = pull(vault, "org/m", dest, skip_refused=True)
    assert sorted(each.path for each in result.refused) == sorted(paths)
    assert read_folder(dest) == read_folder(model)


@pytest.mark.parametrize("path", [*OBEYED, ".git", *DECEIVING])
def test_refused_paths_may_not_be_added(path: str):
    check_path(path)
    with pytest.raises(InvalidName, match="not allowed") as caught:
        check_new_path(path)
    assert caught.value.message.isprintable()


def test_other_paths_are_written(vault: LocalVault, model: Path, tmp_path: Path):
    for path in FINE:
        (model / path).parent.mkdir(parents=True, exist_ok=True)
        (model / path).write_text(path)
    push(vault, model, "org/m")
    result = pull(vault, "org/m", tmp_path / "dest")
    assert result.refused == ()
    assert read_folder(tmp_path / "dest") == read_folder(model)


def test_a_hostile_server_through_the_command(vault: LocalVault, model: Path, tmp_path: Path):
    made = push(vault, model, "org/m")
    old = vault.resolve("org/m").manifest
    manifest = rename_files(old, {"README.md": ".git/hooks/post-checkout"})
    with lying(Liar(vault, manifest, made.commit)) as url:
        done = run("--vault", url, "pull", "org/m", tmp_path / "dest")
        assert done.exit_code == 4
        assert ".git/hooks/post-checkout" in done.stderr
        assert not (tmp_path / "dest").exists()
        done = run("--vault", url, "pull", "org/m", tmp_path / "dest", "--skip-refused", "--json")
    assert done.exit_code == 0
    assert [each["path"] for each in json.loads(done.stdout)["refused"]] == [
        ".git/hooks/post-checkout"
    ]
    assert not (tmp_path / "dest/.git").exists()


def test_old_stores_stay_readable(vault: LocalVault, model: Path, tmp_path: Path):
    manifest = store_copies(vault, model, [".git/config"])
    assert not vault.check().problems
    vault.close()
    rebuilt = open_anew(tmp_path / "vault")
    assert rebuilt.resolve("org/m").manifest == manifest
    assert not rebuilt.check().problems
    rebuilt.close()


# Refused where a file enters


@pytest.mark.parametrize("path", [".git/config", ".ssh/authorized_keys", "x" * 256, "a\u202eb"])
def test_a_commit_over_http_refuses(path: str, vault: LocalVault, model: Path):
    push(vault, model, "org/m")
    bad = rename_files(vault.resolve("org/m").manifest, {"README.md": path})
    with TestClient(create_app(vault)) as web:
        address = "/v1/repos/org/m/commits?branch=main"
        answer = web.post(address, content=pack_manifest(bad))
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "invalid_name"
    assert vault.resolve("org/m").manifest.file(path) is None


@pytest.mark.parametrize("path", [".bashrc", ".config/x", "sub/.npmrc", "a\u202eb"])
def test_a_push_refuses(path: str, vault: LocalVault, model: Path):
    (model / path).parent.mkdir(parents=True, exist_ok=True)
    (model / path).write_text("x")
    with pytest.raises(InvalidName, match="not allowed"):
        push(vault, model, "org/m")


def test_a_push_leaves_out_what_tools_keep(vault: LocalVault, model: Path, tmp_path: Path):
    honest = read_folder(model)
    for folder in (".git", ".hg", ".vscode", ".idea", ".cache", ".weightvault"):
        (model / folder).mkdir()
        (model / folder / "config").write_text("x")
    push(vault, model, "org/m")
    pull(vault, "org/m", tmp_path / "dest")
    assert read_folder(tmp_path / "dest") == honest


@pytest.mark.parametrize("path", [".git/config", ".GIT/config", "git~1/x", ".ssh/x", "x" * 256])
@pytest.mark.parametrize("kind", ["file", "lfsFile"])
def test_a_hub_commit_refuses(path: str, kind: str, vault: LocalVault):
    content = b"[core]\n\tfsmonitor = touch /tmp/owned\n"
    oid = hashlib.sha256(content).hexdigest()
    values = {
        "file": {"path": path, "encoding": "base64", "content": base64.b64encode(content).decode()},
        "lfsFile": {"path": path, "algo": "sha256", "oid": oid, "size": len(content)},
    }
    with TestClient(create_app(vault), base_url="http://hub") as web:
        web.post("/api/repos/create", json={"name": "m", "organization": "me"})
        batch = {"operation": "upload", "objects": [{"oid": oid, "size": len(content)}]}
        (item,) = web.post("/me/m.git/info/lfs/objects/batch", json=batch).json()["objects"]
        upload = item["actions"]["upload"]
        sent = web.put(upload["href"], content=content, headers=upload.get("header", {}))
        assert sent.is_success
        asked = [{"key": "header", "value": {"summary": "x"}}, {"key": kind, "value": values[kind]}]
        body = b"".join(json.dumps(line).encode() + b"\n" for line in asked)
        answer = web.post("/api/models/me/m/commit/main", content=body)
        assert answer.status_code == 400
        assert "not allowed" in answer.json()["error"]
        wanted = {"files": [{"path": path, "size": len(content), "sample": ""}]}
        assert web.post("/api/models/me/m/preupload/main", json=wanted).status_code == 422
    assert vault.resolve("me/m").manifest.file(path) is None


# Servers that lie otherwise


@pytest.fixture
def liar(vault: LocalVault, model: Path) -> Liar:
    made = push(vault, model, "org/m")
    return Liar(vault, vault.resolve("org/m").manifest, made.commit)


def endless() -> Iterator[bytes]:
    while True:
        yield bytes(1 << 20)


@pytest.mark.parametrize("status", [200, 500])
def test_bodies_without_end(status: int, liar: Liar, tmp_path: Path):
    sent = 0

    def count() -> Iterator[bytes]:
        nonlocal sent
        for piece in endless():
            sent += len(piece)
            yield piece

    liar.answers["GET", "/manifest"] = lambda: (status, {}, count())
    with lying(liar) as url, pytest.raises(InvalidInput, match="exceeds"):
        HttpVault(url).resolve("org/m")
    assert sent < 100 << 20


def test_frames_larger_than_their_chunks_are_not_kept(
    liar: Liar, vault: LocalVault, tmp_path: Path
):
    digests = list(liar.manifest.digests())
    frames = list(vault.read_frames("org/m", "main", digests))

    def bloat() -> Iterator[bytes]:
        for frame in frames:
            padded = frame + bytes(8 << 20)
            yield len(padded).to_bytes(8, "little") + padded

    liar.answers["POST", "/frames"] = lambda: (200, {}, bloat())
    with lying(liar) as url, pytest.raises(VaultError, match="more than the chunk"):
        pull(HttpVault(url), "org/m", tmp_path / "dest")
    assert read_folder(tmp_path / "dest") == {}


def test_the_token_goes_to_no_other_server(liar: Liar, vault: LocalVault, monkeypatch, tmp_path):
    other = Liar(vault, liar.manifest, liar.commit)
    monkeypatch.setenv("WEIGHTVAULT_TOKEN", "wv_secret")
    with ExitStack() as stack:
        there = stack.enter_context(lying(other))
        for status in (301, 302, 303, 307, 308):
            liar.answers["GET", "/manifest"] = lambda status=status: (
                status,
                {"Location": f"{there}/v1/repos/org/m/manifest"},
                iter(()),
            )
            here = stack.enter_context(lying(liar))
            done = run("--vault", here, "pull", "org/m", tmp_path / "dest")
            assert done.exit_code != 0
        assert "wv_secret" in str(liar.seen)
        assert other.seen == []
        assert "wv_secret" not in done.output + done.stderr


MISSHAPEN = {
    "missing": ("POST", "/v1/missing", lambda v: v.find_missing({bytes(32)})),
    "pack": ("PUT", "/packs/" + "0" * 64, lambda v: v.add_pack(Path(__file__), "0" * 64)),
    "job": ("POST", "/v1/jobs", lambda v: v.optimise_all()),
    "check": ("GET", "/v1/check", lambda v: v.check()),
    "repos": ("GET", "/v1/repos", lambda v: v.list_repos()),
}


DOCUMENTS = [
    {},
    {"missing": ["x"]},
    {"missing": None},
    {"result": 1},
    {"error": {"code": ["x"], "message": 1, "hint": {}}},
    {"progress": {"task": "x", "done": -1, "total": 10**30, "unit": None}},
    [1],
    "x",
]


@pytest.mark.parametrize("case", MISSHAPEN)
def test_answers_of_another_shape_are_errors_of_ours(case: str, liar: Liar):
    method, path, ask = MISSHAPEN[case]
    with lying(liar) as url:
        for status, document in itertools.product((200, 400), DOCUMENTS):
            liar.answers[method, path] = lambda s=status, d=document: json_answer(d, s)
            with pytest.raises(VaultError):
                ask(HttpVault(url))
