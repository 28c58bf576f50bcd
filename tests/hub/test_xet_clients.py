"""The real clients upload through Xet: what they send, and what they are left with when something
of what they once sent is gone."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_clients import VERSIONS, client_environment, find_python
from live_server import serving
from models import make_weights, safetensors_bytes
from sqlalchemy import delete
from vaults import open_local

from weightvault.api.server.app import create_app
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.gc import Collector
from weightvault.store.catalogue.tables.xet_schema import xet_xorbs

# Since 1.20 huggingface_hub uploads through Xet and nothing else.
CLIENTS = ("2.4", "1.33")
# What is the server's part in it, both find alike.
ONE_CLIENT = ("2.4", pytest.param("1.33", marks=pytest.mark.slow))
CLIENT_SECONDS = 120
WEIGHTS = 30_000_000
MANY = 3000


class Traffic:
    """Passes requests on, and counts the bytes of their bodies by what they are for."""

    def __init__(self, app) -> None:
        self.app = app
        # By which the server is configured.
        self.state = app.state
        self.bytes: Counter[str] = Counter()
        self.on_request: Callable[[str], None] = lambda path: None

    async def __call__(self, scope, receive, send) -> None:
        self.on_request(scope.get("path", ""))

        async def counting():
            message = await receive()
            if message["type"] == "http.request":
                self.bytes[kind_of(scope["path"])] += len(message.get("body", b""))
            return message

        await self.app(scope, counting, send)

    def take(self) -> Counter[str]:
        """The bytes since this was last asked."""
        found, self.bytes = self.bytes, Counter()
        return found


def kind_of(path: str) -> str:
    return next((k for k in ("/v1/xorbs/", "/v2/shards") if k in path), "other").strip("/")


class Hub:
    """A running server, and clients that keep their caches in folders of their own."""

    def __init__(self, vault: LocalVault, traffic: Traffic, url: str, python: Path, folder: Path):
        self.vault, self.traffic, self.url = vault, traffic, url
        self._python, self.folder = python, folder

    def start(self, verb: str, home: str, repo: str, *rest: str | Path) -> subprocess.Popen[str]:
        script = Path(__file__).with_name("xet_client.py")
        command = map(str, (self._python, script, verb, repo, *rest))
        env = client_environment(self.folder / home, {"HF_ENDPOINT": self.url, "HF_TOKEN": "any"})
        pipe = subprocess.PIPE
        return subprocess.Popen(list(command), env=env, text=True, stdout=pipe, stderr=pipe)

    def run(
        self, verb: str, home: str, repo: str, *rest: str | Path
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(verb, home, repo, *rest)
        out, err = process.communicate(timeout=CLIENT_SECONDS)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def upload(self, home: str, repo: str, data: bytes, name: str = "model.safetensors") -> int:
        """Uploads a file and returns how many bytes of xorbs that took."""
        self.traffic.take()
        done = self.try_upload(home, repo, data, name)
        assert done.returncode == 0, done.stderr
        return self.traffic.take()["v1/xorbs"]

    def try_upload(
        self, home: str, repo: str, data: bytes, name: str = "model.safetensors"
    ) -> subprocess.CompletedProcess[str]:
        file = self.folder / "file"
        file.write_bytes(data)
        return self.run("upload", home, repo, file, name)

    def download(self, repo: str, name: str = "model.safetensors") -> str:
        done = self.run("download", "reader", repo, name)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(params=ONE_CLIENT)
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hub]:
    python = find_python(VERSIONS[request.param])
    vault = open_local(tmp_path / "served")
    traffic = Traffic(create_app(vault))
    with serving(traffic) as url:  # type: ignore[arg-type]
        yield Hub(vault, traffic, url, python, tmp_path)
    vault.close()


def make_model(seed: int, size: int = WEIGHTS) -> bytes:
    rows = size // 4096
    weights = make_weights(seed, {"a": (rows // 2, 1024), "b": (rows - rows // 2, 1024)})
    return safetensors_bytes({n: ("F32", w.shape, w.tobytes()) for n, w in weights.items()})


def edit(data: bytes) -> bytes:
    """Another file, with some bytes changed in three places."""
    edited = bytearray(data)
    for place in (1_000_000, len(data) // 2, len(data) - 5000):
        edited[place : place + 16] = os.urandom(16)
    return bytes(edited)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("hub", CLIENTS, indirect=True)
def test_what_was_sent_once_is_not_sent_again(hub: Hub):
    data = make_model(1)
    assert 0.5 * len(data) < hub.upload("mine", "org/model", data) < 1.01 * len(data)
    assert hub.download("org/model") == sha256(data)
    # Another repo, the same client: a shard and no more.
    assert hub.upload("mine", "org/again", data) == 0
    assert hub.download("org/again") == sha256(data)
    edited = edit(data)
    assert hub.upload("mine", "org/model", edited) < 0.03 * len(data)
    assert hub.download("org/model") == sha256(edited)
    # A client that remembers nothing learns from the server what is there.
    more = edit(edited)
    assert hub.upload("other", "org/more", more) < 0.03 * len(data)
    assert hub.download("org/more") == sha256(more)


def test_owners_learn_nothing_of_each_other(hub: Hub):
    data = make_model(2, 8_000_000)
    first = hub.upload("mine", "org/model", data)
    # The client has sent all of it to another owner; here it is as if it had not.
    assert hub.upload("mine", "else/model", data) == first
    assert hub.upload("theirs", "third/model", data) == first
    assert hub.download("else/model") == sha256(data)


def test_deleted_files_and_repos_can_be_uploaded_again(hub: Hub):
    data = make_model(3, 8_000_000)
    first = hub.upload("mine", "org/model", data)
    assert hub.run("delete", "mine", "org/model", "model.safetensors").returncode == 0
    # The commit before still has it.
    assert hub.upload("mine", "org/model", data) == 0
    assert hub.download("org/model") == sha256(data)
    assert hub.run("drop", "mine", "org/model").returncode == 0
    Collector(hub.vault, grace_seconds=0).run()
    # What the client counts on is gone, so it was given another address.
    assert hub.upload("mine", "org/model", data) > 0.9 * first
    assert hub.download("org/model") == sha256(data)
    assert not hub.vault.check().problems


def test_collection_beside_a_warm_client(hub: Hub):
    data = make_model(4, 8_000_000)
    hub.upload("mine", "org/model", data)
    Collector(hub.vault, grace_seconds=0).run()
    edited = edit(data)
    assert hub.upload("mine", "org/model", edited) < 0.1 * len(data)
    assert hub.download("org/model") == sha256(edited)


def test_lost_xorbs_are_sent_anew_by_the_next_try(hub: Hub):
    data = make_model(5, 8_000_000)
    first = hub.upload("mine", "org/model", data)
    # As after a catalogue of yesterday was put back.
    with hub.vault.catalogue.writing() as connection:
        connection.execute(delete(xet_xorbs))
    edited = edit(data)
    failed = hub.try_upload("mine", "org/model", edited)
    assert failed.returncode != 0
    assert "upload again" in failed.stderr
    assert hub.upload("mine", "org/model", edited) > 0.9 * first
    assert hub.download("org/model") == sha256(edited)


@pytest.mark.parametrize("stage", ["/v1/xorbs/", "/v2/shards", "/commit/"])
def test_killed_client_leaves_nothing_that_hinders_the_next(hub: Hub, stage: str):
    data = make_model(6, 8_000_000)
    clients: list[subprocess.Popen[str]] = []

    def kill(path: str) -> None:
        if stage in path:
            clients[0].kill()
            raise ConnectionAbortedError("the client is dead")

    file = hub.folder / "killed"
    file.write_bytes(data)
    hub.traffic.on_request = kill
    clients.append(hub.start("upload", "mine", "org/model", file, "model.safetensors"))
    clients[0].communicate(timeout=CLIENT_SECONDS)
    assert clients[0].returncode == -signal.SIGKILL
    hub.traffic.on_request = lambda path: None
    left = [info.key for info in hub.vault.backend.list("xorbs/")]
    assert len(left) == {"/v1/xorbs/": 0, "/v2/shards": 2, "/commit/": 1}[stage]
    # A xorb that arrived need not be sent again, though the client has forgotten that it did.
    again = hub.upload("other", "org/model", data)
    assert again == 0 if stage != "/v1/xorbs/" else again > 0.5 * len(data)
    assert hub.download("org/model") == sha256(data)
    # What no shard named goes once it is as old as the grace.
    Collector(hub.vault, grace_seconds=0, now=lambda: time.time() + 2 * 24 * 3600).run()
    assert all(info.key.endswith(".index") for info in hub.vault.backend.list("xorbs/"))
    assert hub.download("org/model") == sha256(data)


@pytest.mark.parametrize("hub", CLIENTS, indirect=True)
def test_flipped_bytes_are_errors_until_the_client_mends_them(hub: Hub):
    data = make_model(7, 8_000_000)
    hub.upload("mine", "org/model", data)
    # Else it may have read the frames by now, and puts sound ones in the place of damaged ones.
    hub.traffic.state.encoder.stop()
    for info in list(hub.vault.backend.list("packs/")):
        damaged = bytearray(hub.vault.backend.get(info.key))
        damaged[len(damaged) // 2] ^= 1
        hub.vault.backend.put(info.key, bytes(damaged))
    refused = hub.run("download", "reader", "org/model", "model.safetensors")
    assert refused.returncode != 0
    assert refused.stdout == ""
    edited = edit(data)
    failed = hub.try_upload("mine", "org/model", edited)
    assert failed.returncode != 0
    assert "upload again" in failed.stderr
    hub.upload("mine", "org/model", edited)
    assert hub.download("org/model") == sha256(edited)


@pytest.mark.slow
@pytest.mark.parametrize("hub", CLIENTS, indirect=True)
def test_thousands_of_tiny_files_go_in_one_upload(hub: Hub):
    """More than one shard has time for, were they put on record one by one."""
    folder = hub.folder / "many"
    folder.mkdir()
    for number in range(MANY):
        (folder / f"{number}.bin").write_bytes(b"tiny file %d" % number)
    began = time.monotonic()
    done = hub.run("folder", "mine", "org/many", folder)
    print(f"{MANY} files in {time.monotonic() - began:.1f} s")
    assert done.returncode == 0, done.stderr
    assert hub.traffic.take()["v1/xorbs"]
    files = hub.vault.resolve("org/many").manifest.files
    assert len([file for file in files if file.path.endswith(".bin")]) == MANY
    for number in range(0, MANY, MANY // 3):
        assert hub.download("org/many", f"{number}.bin") == sha256(b"tiny file %d" % number)
    assert not hub.vault.check().problems
