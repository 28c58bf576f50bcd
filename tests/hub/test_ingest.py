"""What clients upload ends up as if it had been pushed; what is broken off leaves nothing."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hub_clients import NO_XET, VERSIONS, Hub, checked, client_environment, find_python, hf
from models import make_weights, tune, write_model
from vaults import open_local

from weightvault.api.hub.attributes import FIRST_ATTRIBUTES
from weightvault.dedup.transfer.push import push
from weightvault.store.catalogue.queues.encode_queue import count_uncoded

SHAPES = {f"layer.{i}.weight": (512, 256) for i in range(4)} | {"norm": (256,)}
WAIT_SECONDS = 60.0


def upload(hub: Hub, tmp_path: Path, folder: Path, repo: str, extra: dict[str, str]) -> None:
    env = client_environment(
        tmp_path / "client", {"HF_ENDPOINT": hub.url, "HF_TOKEN": "x", **extra}
    )
    checked([hf(VERSIONS["2.4"]), "upload", repo, str(folder)], env)


def wait_until_coded(hub: Hub) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while count_uncoded(hub.vault.catalogue):
        assert time.monotonic() < deadline, "the uploads were not coded"
        time.sleep(0.1)


@pytest.mark.parametrize("extra", [{}, NO_XET], ids=["xet", "no-xet"])
@pytest.mark.parametrize("ingest", ["background", "inline"])
def test_a_fine_tune_becomes_a_delta(
    start_hub: Callable[..., Hub], tmp_path: Path, ingest: str, extra: dict[str, str]
):
    base = make_weights(1, SHAPES)
    folders = {
        "me/base": write_model(tmp_path / "base", base),
        "me/tune": write_model(tmp_path / "tune", tune(base, 2)),
    }
    hub = start_hub(ingest=ingest)
    pushed = open_local(tmp_path / "pushed")
    for repo, folder in folders.items():
        push(pushed, folder, repo)
        upload(hub, tmp_path, folder, repo, extra)
    if ingest == "background":
        wait_until_coded(hub)
    assert count_uncoded(hub.vault.catalogue) == 0
    # Of two relatives, either may be the one that stands alone: the sum is what counts.
    found, expected = hub.vault.report(), pushed.report()
    # With what repos begin, and a push does not make.
    assert found.unique == expected.unique + len(FIRST_ATTRIBUTES)
    assert found.frames == pytest.approx(expected.frames, rel=0.01)
    assert found.stages.deltas > 0.3 * expected.unique / 2
    for repo, folder in folders.items():
        for path in folder.iterdir():
            pieces = hub.vault.read_file(repo, "main", path.name)[2]
            assert b"".join(map(bytes, pieces)) == path.read_bytes()
    pushed.close()


@pytest.mark.parametrize("extra", [{}, NO_XET], ids=["xet", "no-xet"])
def test_a_killed_client_leaves_nothing_and_may_come_again(
    hub: Hub, tmp_path: Path, extra: dict[str, str]
):
    folder = tmp_path / "model"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(8):
        (folder / f"{i}.bin").write_bytes(rng.bytes(10_000_000))
    env = client_environment(
        tmp_path / "client", {"HF_ENDPOINT": hub.url, "HF_TOKEN": "x", **extra}
    )
    command = [hf(VERSIONS["2.4"]), "upload", "me/model", str(folder)]
    client = subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + WAIT_SECONDS
    while client.poll() is None and not any(hub.vault.backend.list()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while client.poll() is None and sum(i.size for i in hub.vault.backend.list()) < 15_000_000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    client.send_signal(signal.SIGKILL)
    client.wait()
    head = hub.vault.resolve("me/model")
    assert [entry.path for entry in head.manifest.files] == [".gitattributes"]
    assert hub.vault.check().problems == ()
    checked(command, env)
    for path in folder.iterdir():
        pieces = hub.vault.read_file("me/model", "main", path.name)[2]
        assert hashlib.sha256(b"".join(map(bytes, pieces))).digest() == digest_of(path)


def digest_of(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def test_every_client_sees_what_was_pushed(hub: Hub, tmp_path: Path):
    folder = write_model(tmp_path / "model", make_weights(1), "# A model\n")
    commit = push(hub.vault, folder, "me/pushed").commit
    script = (
        "import json, sys\n"
        "from huggingface_hub import HfApi, snapshot_download\n"
        "info = HfApi().model_info('me/pushed', files_metadata=True)\n"
        "lfs = {s.rfilename: s.lfs.sha256 for s in info.siblings if s.lfs}\n"
        "print(json.dumps([info.sha, lfs, snapshot_download('me/pushed')]))\n"
    )
    digest = digest_of(folder / "model.safetensors").hex()
    for version, environment in VERSIONS.items():
        python = find_python(environment)
        home = tmp_path / version
        env = client_environment(home, {"HF_ENDPOINT": hub.url, "HF_TOKEN": "x"})
        sha, lfs, got = json.loads(
            checked([str(python), "-c", script], env).stdout.splitlines()[-1]
        )
        assert (sha, lfs) == (commit.id, {"model.safetensors": digest})
        for path in folder.iterdir():
            assert (Path(got) / path.name).read_bytes() == path.read_bytes()
