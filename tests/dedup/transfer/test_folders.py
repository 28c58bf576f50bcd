"""What a push takes of a folder: everything, or what it left out has a name and a reason."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import bf16_file, make_weights
from vaults import open_local

from weightvault.dedup.errors import InvalidFile, UnfitFiles, UnfitNames
from weightvault.dedup.formats import scan
from weightvault.dedup.formats.cutting.held import SHORT_BYTES
from weightvault.dedup.model.paths import path_fault
from weightvault.dedup.transfer.folders import scan_folder
from weightvault.dedup.transfer.folders.rules import Rules
from weightvault.dedup.transfer.folders.survey import Survey, survey
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345678\n"
)


def write(root: Path, **files: bytes | str) -> Path:
    """Files by their path, with `__` for a slash and `_DOT_` for a dot."""
    for name, data in files.items():
        put(root, name.replace("__", "/").replace("_DOT_", "."), data)
    return root


def put(root: Path, name: str, data: bytes | str = b"x") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def names(found: Survey) -> tuple[set[str], set[str], set[str], set[str]]:
    """What is stored, left out, broken and secret."""
    groups = (found.left_out, [*found.broken, *found.misnamed], found.secrets)
    left_out, broken, secrets = ({each.path for each in group} for group in groups)
    return set(found.files), left_out, broken, secrets


@contextmanager
def unprivileged() -> Iterator[Path]:
    """A folder to work in as a user whom permissions stop; root is none."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o777)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield root
        finally:
            os.seteuid(user)


def test_links_to_folders_are_followed_but_not_round_and_round(tmp_path: Path):
    put(tmp_path, "store/deep/shard.bin")
    model = write(tmp_path / "model", config="{}")
    (model / "weights").symlink_to("../store")
    (model / "self").symlink_to(".")
    (tmp_path / "store" / "deep" / "up").symlink_to("..")
    stored, left_out, broken, _ = names(survey(model))
    assert stored == {"config", "weights/deep/shard.bin"}
    assert (left_out, broken) == ({"self", "weights/deep/up"}, set())


def test_all_that_cannot_be_read_is_named_at_once(tmp_path: Path):
    model = write(tmp_path / "m", config="{}", sub__a="a")
    (model / "model.safetensors").symlink_to("../../blobs/gone")
    (model / "loop").symlink_to("loop")
    (model / "sub" / "gone").symlink_to("nowhere")
    expected = {"model.safetensors", "loop", "sub/gone"}
    vault = open_local(tmp_path / "vault")
    with pytest.raises(UnfitFiles) as caught:
        push(vault, model, "o/r")
    assert {path for path, _ in caught.value.problems} == expected
    assert all(repr(path) in caught.value.message for path in expected)
    assert vault.list_repos() == []
    result = push(vault, model, "o/r", rules=Rules(skip_broken=True))
    vault.close()
    assert {each.path for each in result.left_out} == expected
    assert result.files == 2


def test_what_permissions_forbid_is_broken():
    with unprivileged() as root:
        write(root, config="{}", secret__w="w", locked="l")
        (root / "secret").chmod(0)
        (root / "locked").chmod(0)
        stored, _, broken, _ = names(survey(root))
        (root / "secret").chmod(0o700)
    assert (stored, broken) == ({"config"}, {"secret", "locked"})


def test_every_bad_name_is_listed_with_its_rule(tmp_path: Path):
    bad = {
        "a\\b.txt": "backslash",
        os.fsdecode(b"caf\xe9.json"): "UTF-8",
        "line\nbreak": "control character",
        "turned\u202e.txt": "invisible",
        "/".join(["d" * 200] * 6): "longer than 1,024 bytes",
        "deep/" * 32 + "f": "32 parts",
        ".ssh": "tools read",
    }
    put(tmp_path, "config.json")
    for name in bad:
        put(tmp_path, name)
    found = survey(tmp_path)
    assert set(found.files) == {"config.json"}
    assert len(found.misnamed) == len(bad)
    reasons = "\n".join(each.reason for each in found.misnamed)
    for rule in bad.values():
        assert rule in reasons
    with pytest.raises(UnfitNames, match="7 files"):
        found.check(tmp_path)


def test_what_is_no_file_is_named(tmp_path: Path):
    write(tmp_path, a="a")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(tmp_path)
        try:
            listening.bind("socket")
        finally:
            os.chdir(here)
        found = survey(tmp_path)
    reasons = {each.path: each.reason for each in found.left_out}
    assert "a pipe" in reasons["pipe"]
    assert "a socket" in reasons["socket"]


def test_leftovers_of_tools_and_systems_are_left_out(tmp_path: Path):
    write(tmp_path, model="m", _DOT_git__config="c", _DOT_cache__x="x", _DOT_DS_Store="d")
    put(tmp_path, "Icon\r", b"")
    put(tmp_path, "sub/._model.safetensors", b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
    put(tmp_path, "._mine", b"not a word of Apple")
    stored, left_out, broken, secrets = names(survey(tmp_path))
    assert stored == {"model", "._mine"}
    assert left_out == {".git", ".cache", ".DS_Store", "Icon\r", "sub/._model.safetensors"}
    assert not broken
    assert not secrets


SECRETS = (".env", ".env.local", "sub/id_rsa", "key.pem", "credentials.json", "Secrets.toml")


def test_secrets_are_refused_unless_named(tmp_path: Path):
    for name in SECRETS:
        put(tmp_path, name, "-----BEGIN PRIVATE KEY-----\n")
    put(tmp_path, "ca.pem", "-----BEGIN CERTIFICATE-----\n")
    put(tmp_path, ".env.example", "TOKEN=\n")
    found = survey(tmp_path)
    stored, _, _, secrets = names(found)
    assert stored == {"ca.pem", ".env.example"}
    assert secrets == set(SECRETS)
    with pytest.raises(UnfitFiles, match=r"\.env"):
        found.check(tmp_path)
    assert set(SECRETS) <= names(survey(tmp_path, Rules(include=SECRETS)))[0]
    assert set(survey(tmp_path / ".env").files) == {".env"}
    put(tmp_path, ".wvignore", "!.env\nid_*\n*.pem\ncred*\n/Secrets.toml\n.env.local\n")
    stored, left_out, _, secrets = names(survey(tmp_path))
    assert stored == {".env", ".env.example", ".wvignore"}
    assert left_out == {*SECRETS, "ca.pem"} - {".env"}
    assert not secrets


def test_ignore_files_are_read_as_git_reads_them(tmp_path: Path):
    for name in ("a.log", "keep.log", "out/x", "sub/a.log", "sub/out", "sub/b.tmp", "only/x"):
        put(tmp_path, name)
    put(tmp_path, ".wvignore", "# logs\n*.log\n!keep.log\n/out/\n/only\n")
    put(tmp_path, "sub/.wvignore", "!a.log\n*.tmp\n")
    stored, left_out, _, _ = names(survey(tmp_path))
    assert stored == {".wvignore", "keep.log", "sub/.wvignore", "sub/a.log", "sub/out"}
    assert left_out == {"a.log", "out", "only", "sub/b.tmp"}


def test_include_and_exclude_come_before_all_else(tmp_path: Path):
    for name in ("a.bin", "b.txt", "sub/c.bin", "sub/d.txt", "__MACOSX/e.bin", ".git/f"):
        put(tmp_path, name)
    put(tmp_path, ".wvignore", "a.bin\n")
    found = survey(tmp_path, Rules(include=("*.bin",), exclude=("*",)))
    stored, left_out, _, _ = names(found)
    assert stored == {"a.bin", "sub/c.bin", "__MACOSX/e.bin"}
    assert left_out == {"b.txt", "sub/d.txt", ".git", ".wvignore"}


def test_a_vault_is_never_stored_in_a_vault(tmp_path: Path):
    write(tmp_path, model="m")
    (tmp_path / "vault" / "objects").mkdir(parents=True)
    vault = open_local(tmp_path / "vault")
    results = [push(vault, tmp_path, "o/r") for _ in range(2)]
    vault.close()
    for result in results:
        assert [each.path for each in result.left_out] == ["vault"]
        assert result.files == 1
    # Before it holds anything, it is known by where it lies; and so is a catalogue elsewhere.
    write(tmp_path, fresh__objects__x="", index="")
    own = (tmp_path / "fresh", tmp_path / "index")
    assert set(survey(tmp_path, Rules(own=own)).files) == {"model"}
    with pytest.raises(InvalidFile, match="the vault itself"):
        survey(tmp_path / "fresh", Rules(own=own))


def make_cache(root: Path, commits: dict[str, dict[str, bytes]], main: str | None) -> Path:
    for commit, files in commits.items():
        for name, data in files.items():
            blob = f"blobs/{data.hex()}"
            put(root, blob, data)
            link = root / "snapshots" / commit / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(root / blob, link.parent))
    if main is not None:
        put(root, "refs/main", main)
    return root


def test_of_a_cache_of_the_hub_the_files_of_a_revision_are_stored(tmp_path: Path):
    old, new = "a" * 40, "b" * 40
    commits = {old: {"m.bin": b"old", "c.json": b"{}"}, new: {"m.bin": b"new", "c.json": b"{}"}}
    cache = make_cache(tmp_path / "models--o--m", commits, main=new)
    put(cache, "blobs/beef.incomplete")
    found = survey(cache)
    assert {name: path.read_bytes() for name, path in found.files.items()} == commits[new]
    reasons = {each.path: each.reason for each in found.left_out}
    blob = f"blobs/{b'old'.hex()}"
    assert set(reasons) == {f"snapshots/{old}", blob, "blobs/beef.incomplete", "refs"}
    assert "unfinished" in reasons["blobs/beef.incomplete"]
    assert new in found.warnings[0].reason
    assert set(survey(cache / "snapshots" / old).files) == {"m.bin", "c.json"}
    # As `hf cache delete` leaves it: the links are there and lead nowhere.
    (cache / blob).unlink()
    assert names(survey(cache / "snapshots" / old))[2] == {"m.bin"}


def test_a_cache_without_a_main_revision_asks_for_one(tmp_path: Path):
    commits = {"a" * 40: {"m": b"1"}, "b" * 40: {"m": b"2"}}
    with pytest.raises(InvalidFile, match="2 revisions") as caught:
        survey(make_cache(tmp_path / "two", commits, main=None))
    assert "a" * 40 in str(caught.value.hint)
    assert set(survey(make_cache(tmp_path / "one", {"c": {"m": b"3"}}, "d" * 40)).files) == {"m"}


def test_caches_in_a_folder_are_stored_as_what_they_hold(tmp_path: Path):
    hub = tmp_path / "hub"
    make_cache(hub / "models--o--a", {"a" * 40: {"m.bin": b"a"}}, main="a" * 40)
    make_cache(hub / "models--o--b", {"b" * 40: {"sub/m.bin": b"b"}}, main=None)
    two = {"a" * 40: {"m": b"1"}, "b" * 40: {"m": b"2"}}
    make_cache(hub / "models--o--c", two, main=None)
    found = survey(hub)
    stored, left_out, broken, _ = names(found)
    assert stored == {"models--o--a/m.bin", "models--o--b/sub/m.bin"}
    assert left_out == {"models--o--a/refs"}
    assert broken == {"models--o--c"}
    assert [each.path for each in found.warnings] == ["models--o--a", "models--o--b"]


def test_a_link_that_leads_nowhere_is_called_so(tmp_path: Path):
    (tmp_path / "m").symlink_to("../gone")
    with pytest.raises(InvalidFile, match=r"a link to '\.\./gone', where there is nothing"):
        survey(tmp_path / "m")


def test_odd_files_are_stored_with_a_warning(tmp_path: Path):
    whole = bf16_file(make_weights(1))
    model = write(tmp_path / "m", cut_DOT_safetensors=whole[:-10], empty_DOT_safetensors=b"")
    write(model, pointer_DOT_safetensors=POINTER, upper_DOT_SAFETENSORS=b"?" * 99, whole=whole)
    vault = open_local(tmp_path / "vault")
    result = push(vault, model, "o/r")
    pull(vault, "o/r", tmp_path / "out")
    vault.close()
    said = {each.path: each.reason for each in result.warnings}
    odd = {"cut.safetensors", "empty.safetensors", "pointer.safetensors", "upper.SAFETENSORS"}
    assert set(said) == odd
    assert "12345678 bytes" in said["pointer.safetensors"]
    assert "git lfs pull" in said["pointer.safetensors"]
    assert "lies at" in said["cut.safetensors"]
    for path in model.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("size", [5000, SHORT_BYTES + 1])
def test_a_file_that_changes_after_it_was_hashed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
):
    """Or stored as it was, where it is short and so read but once."""
    model = write(tmp_path / "m", w=b"a" * size)
    vault = open_local(tmp_path / "vault")

    def scan_then_change(*args: object, **more: object) -> object:
        manifest = scan.scan_files(*args, **more)  # pyright: ignore[reportArgumentType]
        (model / "w").write_bytes(b"b" * size)
        return manifest

    monkeypatch.setattr(scan_folder, "scan_files", scan_then_change)
    if size <= SHORT_BYTES:
        push(vault, model, "o/r")
        assert b"".join(vault.read_file("o/r", "main", "w")[2]) == b"a" * size
    else:
        with pytest.raises(InvalidFile, match="changed while it was pushed"):
            push(vault, model, "o/r")
        assert vault.list_repos() == []
    vault.close()


# Parts of names: ordinary ones, ones that a rule names, ones that no vault takes.
PARTS = st.one_of(
    st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=6
    ),
    st.sampled_from(
        [".git", ".env", ".cache", ".DS_Store", "x.safetensors", "._a", "café", "a\\b"]
    ),
).filter(lambda part: part not in (".", ".."))
KINDS = st.sampled_from(["file", "file", "file", "empty", "folder", "link", "dangling", "pipe"])
TREES = st.lists(st.tuples(st.lists(PARTS, min_size=1, max_size=3), KINDS), max_size=8)


def plant(root: Path, parts: list[str], kind: str) -> None:
    """Puts something of a kind at a place, unless something else is in the way."""
    path = root.joinpath(*parts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind in ("link", "dangling"):
            path.symlink_to(root if kind == "link" else "nowhere")
        else:
            path.write_bytes(b"" if kind == "empty" else os.fsencode(path.name) * 50)
    except OSError:
        pass


@given(TREES)
@settings(max_examples=12, deadline=None)
def test_what_is_not_stored_is_named(tree: list[tuple[list[str], str]]):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "m")
        put(root, "config.json", "{}")
        for parts, kind in tree:
            plant(root, parts, kind)
        found = survey(root, Rules(skip_broken=True, include=(".env",)))
        said = {each.path for each in found.left_out}
        vault = open_local(Path(name, "vault"))
        result = push(vault, root, "o/r", rules=Rules(skip_broken=True, include=(".env",)))
        pull(vault, "o/r", Path(name, "out"))
        vault.close()
        assert {each.path for each in result.left_out} == said
        out = Path(name, "out")
        pulled = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
        assert pulled == set(found.files)
        for path in pulled:
            assert (out / path).read_bytes() == (root / path).read_bytes()
        for path in root.rglob("*"):
            below = path.relative_to(root).as_posix()
            above = [below, *map(str, path.relative_to(root).parents)]
            assert path.is_dir() or below in pulled or said.intersection(above), below
            assert below not in pulled or path_fault(below) is None


def test_executable_files_come_back_executable(tmp_path: Path):
    model = write(tmp_path / "m", run="#!/bin/sh", plain="p")
    (model / "run").chmod(0o755)
    (model / "plain").chmod(0o644)
    vault = open_local(tmp_path / "vault")
    push(vault, model, "o/r")
    out = tmp_path / "out"
    for modes in ((0o755, 0o644), (0o600, 0o755)):
        pull(vault, "o/r", out)
        assert [os.access(out / name, os.X_OK) for name in ("run", "plain")] == [True, False]
        (out / "run").chmod(modes[0])
        (out / "plain").chmod(modes[1])
    pull(vault, "o/r", out)
    vault.close()
    assert stat.S_IMODE((out / "run").stat().st_mode) == 0o700
    assert not stat.S_IMODE((out / "plain").stat().st_mode) & 0o111
