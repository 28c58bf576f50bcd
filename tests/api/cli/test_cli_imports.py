"""Takes over what others keep, and writes what clients of hubs read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import boto3.session
import click.testing
import pytest
from hub_clients import VERSIONS, checked, client_environment, find_python
from models import make_weights, read_folder, tune, write_model
from s3_server import S3Server
from vaults import open_local

from weightvault.api.cli.main import cli
from weightvault.dedup.transfer.push import push


def run(vault: Path, *words: str | Path, env: Mapping[str, str] = {}) -> click.testing.Result:
    arguments = ["--vault", str(vault), *map(str, words)]
    return click.testing.CliRunner().invoke(cli, arguments, env=dict(env))


def told(result: click.testing.Result) -> dict:
    return json.loads(result.stdout)


class Cache:
    """A cache of huggingface_hub, made as its clients make it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, name: str, folder: Path, refs: tuple[str, ...] = (), kind: str = "models") -> str:
        """Adds a folder as a revision of a repo; returns the id of its commit."""
        repo = self.root / f"{kind}--{name.replace('/', '--')}"
        files = read_folder(folder)
        told = repr(sorted((path, hashlib.sha1(data).hexdigest()) for path, data in files.items()))
        commit = hashlib.sha1(told.encode()).hexdigest()
        snapshot = repo / "snapshots" / commit
        (repo / "blobs").mkdir(parents=True, exist_ok=True)
        for path, data in files.items():
            blob = repo / "blobs" / hashlib.sha256(data).hexdigest()
            blob.write_bytes(data)
            link = snapshot / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob)
        for ref in refs:
            (repo / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
            (repo / "refs" / ref).write_text(commit)
        return commit


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Three revisions of one model and two tunes of it."""
    base = make_weights(1)
    weights = {"v1": base, "v2": tune(base, 2), "v3": tune(base, 3)}
    weights |= {"a": tune(base, 4), "b": tune(base, 5)}
    return {
        name: write_model(tmp_path / "models" / name, each, f"# {name}\n")
        for name, each in weights.items()
    }


def stored_bytes(vault: Path) -> int:
    opened = open_local(vault)
    found = opened.report().stored
    opened.close()
    return found


def test_a_cache_of_the_hub_is_taken_over(tmp_path: Path, folders: dict[str, Path]):
    cache = Cache(tmp_path / "cache")
    ids = [
        cache.add("org/model", folders["v1"]),
        cache.add("org/model", folders["v2"], ("dev/x",)),
        cache.add("org/model", folders["v3"], ("main",)),
        cache.add("org/tune-a", folders["a"], ("main",)),
        cache.add("org/tune--b", folders["b"], ("main",), "datasets"),
    ]
    cache.add("gpt2", folders["a"], ("main",))
    vault = tmp_path / "vault"
    first = run(vault, "--json", "import", "--hf-cache", cache.root)
    assert first.exit_code == 0, first.output
    found = told(first)
    assert sorted(each["commit"] for each in found["imported"]) == sorted(ids)
    assert [each["path"] for each in found["left_out"]] == ["models--gpt2"]
    assert found["stored"] < 0.7 * found["logical"]
    again = told(run(vault, "--json", "import", "--hf-cache", cache.root))
    assert all(each["present"] and not each["stored"] for each in again["imported"])
    revisions = {"org/model@main": "v3", "org/model@dev/x": "v2", f"org/model@{ids[0]}": "v1"}
    revisions |= {"org/tune-a": "a", "datasets/org/tune--b": "b"}
    for named, folder in revisions.items():
        target = tmp_path / "copies" / folder
        assert run(vault, "pull", named, target).exit_code == 0
        assert read_folder(target) == read_folder(folders[folder])
    # As much is stored as after pushes of the same folders.
    pushed = open_local(tmp_path / "pushed")
    for repo, folder, branch in (
        ("org/model", "v1", "main"),
        ("org/model", "v2", "dev/x"),
        ("org/model", "v3", "main"),
        ("org/tune-a", "a", "main"),
        ("datasets/org/tune--b", "b", "main"),
    ):
        push(pushed, folders[folder], repo, branch)
    pushed.close()
    assert abs(stored_bytes(vault) / stored_bytes(tmp_path / "pushed") - 1) < 0.02


def test_what_cannot_be_stored_is_named_and_the_rest_goes_on(
    tmp_path: Path, folders: dict[str, Path]
):
    cache = Cache(tmp_path / "cache")
    broken = cache.add("org/broken", folders["a"], ("main",))
    whole = cache.add("org/whole", folders["b"], ("main",))
    lacking = cache.add("org/lacking", folders["a"], ("main",))
    (tmp_path / "cache/models--org--broken/snapshots" / broken / "gone.bin").symlink_to("nowhere")
    listing = tmp_path / "cache/models--org--lacking/trees" / f"{lacking}.json"
    listing.parent.mkdir()
    listing.write_text(json.dumps({"format_version": 1, "files": {"more.bin": {"size": 1}}}))
    vault = tmp_path / "vault"
    result = run(vault, "import", "--hf-cache", cache.root)
    assert result.exit_code == 4
    assert f"org/broken@{broken}" in result.output
    logged = run(vault, "log", "org/whole")
    assert whole[:10] in logged.output
    # It is not said to be the commit of which files lack.
    assert run(vault, "log", f"org/lacking@{lacking}").exit_code == 3
    assert run(vault, "log", f"org/lacking@partial/{lacking[:12]}").exit_code == 0
    count = len(told(run(vault, "--json", "log", f"org/lacking@partial/{lacking[:12]}"))["commits"])
    run(vault, "import", "--hf-cache", cache.root)
    again = told(run(vault, "--json", "log", f"org/lacking@partial/{lacking[:12]}"))["commits"]
    assert len(again) == count == 1


def test_the_usual_cache_is_that_of_the_client(tmp_path: Path, folders: dict[str, Path]):
    Cache(tmp_path / "home/hub").add("org/model", folders["a"], ("main",))
    env = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_CACHE": ""}
    result = run(tmp_path / "vault", "import", "--hf-cache", env=env)
    assert result.exit_code == 0, result.output
    assert "org/model" in result.output


def test_folders_are_taken_over(tmp_path: Path, folders: dict[str, Path]):
    vault, root = tmp_path / "vault", tmp_path / "models"
    named = told(run(vault, "--json", "import", "--dir-per-repo", root, "--namespace", "org"))
    assert {each["repo"] for each in named["imported"]} == {f"org/{name}" for name in folders}
    again = told(run(vault, "--json", "import", "--dir-per-repo", root, "--namespace", "org"))
    assert all(each["present"] for each in again["imported"])
    mixed = run(vault, "--json", "import", "--dir-per-repo", tmp_path)
    assert mixed.exit_code == 4
    assert "models/v1" in {each["repo"] for each in told(mixed)["imported"]}
    assert "vault/tmp" in {each["path"] for each in told(mixed)["failed"]}
    (tmp_path / "none").mkdir()
    assert run(vault, "import", "--dir-per-repo", tmp_path / "none").exit_code == 4
    assert run(vault, "import").exit_code == 2
    assert run(vault, "import", "--hf-cache", "x", "--s3", "s3://y").exit_code == 2


def test_a_bucket_is_taken_over(s3_server: S3Server, tmp_path: Path, folders: dict[str, Path]):
    bucket = s3_server.new_bucket()
    client = boto3.session.Session().client("s3", endpoint_url=f"http://127.0.0.1:{s3_server.port}")
    files = {
        f"in/org/{name}/{p}": d for name in "ab" for p, d in read_folder(folders[name]).items()
    }
    for key, data in (files | {"in/org/a/with space.txt": b"x", "in/loose.txt": b"y"}).items():
        client.put_object(Bucket=bucket, Key=key, Body=data)
    vault = tmp_path / "vault"
    url = s3_server.url(bucket, "in")
    first = run(vault, "--json", "import", "--s3", url)
    assert first.exit_code == 0, first.output
    assert [each["path"] for each in told(first)["left_out"]] == ["loose.txt"]
    assert run(vault, "pull", "org/a", tmp_path / "copy").exit_code == 0
    assert read_folder(tmp_path / "copy") == read_folder(folders["a"]) | {"with space.txt": b"x"}
    client.put_object(Bucket=bucket, Key="in/org/b/new.txt", Body=b"new")
    again = told(run(vault, "--json", "import", "--s3", url))
    assert {e["repo"]: e["present"] for e in again["imported"]} == {"org/a": True, "org/b": False}
    assert run(vault, "import", "--s3", "https://bucket").exit_code == 4


def test_an_export_is_read_by_a_client_without_a_server(tmp_path: Path, folders: dict[str, Path]):
    vault, cache = tmp_path / "vault", tmp_path / "cache"
    assert run(vault, "push", folders["a"], "org/model").exit_code == 0
    first = told(run(vault, "--json", "export", "org/model", cache, "--as-hf-cache"))
    assert first["present"] == 0
    link = next(cache.glob(f"models--org--model/snapshots/{first['commit']}/*.safetensors"))
    link.unlink()
    again = told(run(vault, "--json", "export", "org/model", cache, "--as-hf-cache"))
    assert again["present"] == first["files"] - 1
    assert not list(cache.glob("models--org--model/.*"))
    program = (
        "from huggingface_hub import snapshot_download as s; import sys; "
        "print(s('org/model', local_files_only=True, cache_dir=sys.argv[1]))"
    )
    python = find_python(VERSIONS["2.4"])
    done = checked([str(python), "-c", program, str(cache)], client_environment(tmp_path / "home"))
    assert read_folder(Path(done.stdout.strip())) == read_folder(folders["a"])
    # What was written can be taken over again.
    other = told(run(tmp_path / "other", "--json", "import", "--hf-cache", cache))
    assert [each["commit"] for each in other["imported"]] == [first["commit"]]
