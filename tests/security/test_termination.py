"""A server that is told to stop ends within ten seconds whatever it is at, and nothing is lost.

The disk of these servers is slow (tests/slow_server.py), so that each kind of work would go on for
minutes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest
from blake3 import blake3
from forked import ForkedProcess
from models import make_weights, tune, write_model
from vaults import open_local
from xet_samples import pack_file, pack_shard, pack_xorb

from weightvault.dedup.model.files.entries import FileEntry
from weightvault.dedup.model.files.manifest import Manifest, pack_manifest, parse_manifest
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.refs import History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.dedup.xet.hashes import format_hash

# The promise is ten; a machine that is busy with other tests gets more.
END_SECONDS = 20.0
REPO = "org/model"
SLOW_SECONDS = 2.0
SHAPES = {f"model.layers.{i}.weight": (64, 64) for i in range(3)}
# Far apart in packs of their own, so that each is a read.
FILES = 60


@dataclass
class Site:
    """A server process, the vault's folder, and who waits for its answers."""

    root: Path
    url: str
    process: subprocess.Popen[str]
    manifest: bytes
    clients: list[threading.Thread] = field(default_factory=list)

    def send(self, method: str, path: str, **options: object) -> None:
        """Sends a request in a thread that takes whatever comes of it."""

        def ask() -> None:
            address = path if path.startswith("http") else f"{self.url}{path}"
            try:
                httpx.request(method, address, timeout=120, trust_env=False, **options)  # type: ignore[arg-type]
            except httpx.HTTPError:
                return

        self.clients.append(threading.Thread(target=ask))
        self.clients[-1].start()

    def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        """Sends a request and returns its answer."""
        address = path if path.startswith("http") else f"{self.url}{path}"
        return httpx.request(method, address, timeout=60, trust_env=False, **options)  # type: ignore[arg-type]

    def slow_down(self, seconds: float = SLOW_SECONDS) -> None:
        """Has the disk take its time from now on."""
        (self.root / "slow").write_text(str(seconds))

    def wait_for_work(self, kind: str = "") -> None:
        """Returns once somebody waits for the disk."""
        deadline = time.monotonic() + 60
        log = self.root / "log"
        while not (log.exists() and kind in log.read_text()):
            assert self.process.poll() is None
            assert time.monotonic() < deadline, "nothing is under way"
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Sends a signal and waits for the process to be gone."""
        self.process.send_signal(number)
        assert self.process.wait(END_SECONDS) == 0


def fill(root: Path) -> bytes:
    """Stores a family, and files in a pack each; returns a manifest that commits all of these anew
    as one."""
    vault = open_local(root)
    weights = make_weights(1, SHAPES)
    push(vault, write_model(root / "a", weights), REPO)
    for seed in range(2, 6):
        push(vault, write_model(root / f"m{seed}", tune(weights, seed)), f"org/tune-{seed}")
    segments = []
    for i in range(FILES):
        path = root / f"part-{i}"
        path.write_bytes(np.random.default_rng(i).bytes(3000))
        push(vault, path, "org/parts", f"b{i}")
        segments += vault.resolve("org/parts", f"b{i}").manifest.files[0].segments
    whole = b"".join((root / f"part-{i}").read_bytes() for i in range(FILES))
    (root / "whole").write_bytes(whole)
    history = History(vault, IncomingFiles(vault))
    history.create_repo("org/hub", Message("first"))
    vault.close()
    entry = FileEntry("whole", len(whole), bytes(32), tuple(segments))
    return pack_manifest(Manifest((entry,)))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    root = tmp_path_factory.mktemp("filled")
    return root, fill(root)


@contextmanager
def serving(folder: Path, filled: tuple[Path, bytes]) -> Iterator[Site]:
    """A server of a copy of what is `filled`."""
    root = folder / "served"
    manifest = filled[1]
    shutil.copytree(filled[0], root)
    command = ["slow_server:main", str(root)]
    with (folder / "server.log").open("w") as log:
        process = ForkedProcess(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    found = Site(root, url, process, manifest)
    try:
        assert url, (folder / "server.log").read_text()
        yield found
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        for client in found.clients:
            client.join(30)


def lfs_address(site: Site, data: bytes) -> str:
    oid = hashlib.sha256(data).hexdigest()
    asked = {"operation": "upload", "objects": [{"oid": oid, "size": len(data)}]}
    answer = site.ask("POST", "/org/hub.git/info/lfs/objects/batch", json=asked)
    return answer.json()["objects"][0]["actions"]["upload"]["href"]


def send_commit(site: Site) -> None:
    site.slow_down()
    site.send("POST", "/v1/repos/org/whole/commits", content=site.manifest)


def send_pack(site: Site) -> None:
    vault = open_local(site.root)
    name = next(info.key for info in vault.backend.list("packs/"))
    data = vault.backend.get(name)
    vault.close()
    site.slow_down(60)
    site.send("PUT", f"/v1/packs/{name.rpartition('/')[2]}", content=data)


def send_hub_commit(site: Site) -> None:
    site.slow_down(60)
    file = {"path": "notes.txt", "content": "some text " * 1000}
    lines = [{"key": "header", "value": {"summary": "x"}}, {"key": "file", "value": file}]
    body = "\n".join(map(json.dumps, lines))
    site.send("POST", "/api/models/org/hub/commit/main", content=body)


def send_lfs(site: Site) -> None:
    data = np.random.default_rng(9).bytes(300_000)
    href = lfs_address(site, data)
    site.slow_down(60)
    site.send("PUT", href, content=data)


def send_xorb(site: Site, seconds: float = 60) -> tuple[bytes, list[bytes], str, dict[str, str]]:
    told = site.ask("GET", "/api/models/org/hub/xet-write-token/main").json()
    headers = {"Authorization": f"Bearer {told['accessToken']}"}
    chunks = [np.random.default_rng(i).bytes(20_000) for i in range(40)]
    digest, data = pack_xorb(chunks)
    path = f"{told['casUrl']}/v1/xorbs/default/{format_hash(digest)}"
    if seconds:
        site.slow_down(seconds)
        site.send("POST", path, content=data, headers=headers)
    else:
        assert site.ask("POST", path, content=data, headers=headers).status_code == 200
    return digest, chunks, told["casUrl"], headers


def send_shard(site: Site) -> None:
    xorb, chunks, address, headers = send_xorb(site, 0)
    places = [(xorb, chunks[i : i + 1], i) for i in range(len(chunks))]
    site.slow_down()
    shard = pack_shard([pack_file(places)])
    site.send("POST", f"{address}/v2/shards", content=shard, headers=headers)


def download(site: Site) -> None:
    answer = site.ask(
        "POST",
        "/v1/repos/org/whole/commits",
        content=pack_manifest(whole_manifest(site)),
    )
    assert answer.status_code == 200, answer.text
    site.slow_down()
    site.send("GET", "/v1/repos/org/whole/files/whole")


def whole_manifest(site: Site) -> Manifest:
    (entry,) = parse_manifest(site.manifest).files
    digest = blake3((site.root / "whole").read_bytes()).digest()
    return Manifest((FileEntry(entry.path, entry.size, digest, entry.segments),))


def optimise(site: Site) -> None:
    site.slow_down()
    site.ask("POST", "/v1/jobs", json={"kind": "optimise"})


def compare(site: Site) -> None:
    site.slow_down()
    site.ask("POST", "/v1/jobs", json={"kind": "comparison"})


def check(site: Site) -> None:
    site.slow_down()
    site.send("GET", "/v1/check?progress=true")


def encode(site: Site) -> None:
    """Stores uploads as they come, which wait to be encoded."""
    rng = np.random.default_rng(3)
    files = [
        {"path": f"t{i}.txt", "content": " ".join(map(str, rng.integers(0, 999, 900)))}
        for i in range(20)
    ]
    site.slow_down()
    body = [{"key": "header", "value": {"summary": "x"}}]
    body += [{"key": "file", "value": file} for file in files]
    site.send("POST", "/api/models/org/hub/commit/main", content="\n".join(map(json.dumps, body)))
    site.wait_for_work("coder ")


def wait_for_ever(site: Site) -> None:
    """Has a disk that does not answer."""
    site.slow_down(3600)
    site.send("POST", "/v1/repos/org/whole/commits", content=site.manifest)
    site.send("GET", f"/v1/repos/{REPO}/files/model.safetensors")


KINDS: dict[str, Callable[[Site], object]] = {
    "commit": send_commit,
    "pack": send_pack,
    "hub-commit": send_hub_commit,
    "lfs": send_lfs,
    "xorb": send_xorb,
    "shard": send_shard,
    "download": download,
    "optimise": optimise,
    "compare": compare,
    "check": check,
    "encode": encode,
    "dead-disk": wait_for_ever,
}


# What is under way, and the signal that ends it.
CASES = [(kind, signal.SIGTERM) for kind in KINDS] + [("commit", signal.SIGINT)]


def test_a_signal_ends_the_process_whatever_it_is_at(tmp_path: Path, filled: tuple[Path, bytes]):
    """Side by side, as most of the time all wait."""

    def end(case: tuple[str, signal.Signals]) -> str | None:
        kind, number = case
        folder = tmp_path / f"{kind}-{number.name}"
        folder.mkdir()
        try:
            with serving(folder, filled) as site:
                KINDS[kind](site)
                site.wait_for_work()
                site.stop(number)
                assert_nothing_lost(site)
        except Exception:
            return f"{kind} {number.name}: {traceback.format_exc()}"
        return None

    with ThreadPoolExecutor(len(CASES)) as sites:
        failed = [problem for problem in sites.map(end, CASES) if problem]
    assert not failed, "\n".join(failed)


def assert_nothing_lost(site: Site) -> None:
    vault = open_local(site.root)
    found = vault.check()
    assert not found.problems, found.problems
    weights = write_model(site.root / "again", make_weights(1, SHAPES))
    for path in sorted(weights.iterdir()):
        _, _, pieces = vault.read_file(REPO, "main", path.name)
        assert b"".join(map(bytes, pieces)) == path.read_bytes()
    assert all(f"org/tune-{seed}" in {r.name for r in vault.list_repos()} for seed in range(2, 6))
    vault.close()
