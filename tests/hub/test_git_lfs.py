"""The real git-lfs pushes to a hub and pulls from it."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hub_clients import Hub, checked, client_environment

from weightvault.dedup.transfer.refs import History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles

CONTENT = np.random.default_rng(4).bytes(5_000_000)


@pytest.fixture(autouse=True)
def git_lfs() -> None:
    if shutil.which("git-lfs") is None:
        end = pytest.fail if os.environ.get("CI") else pytest.skip
        end("git-lfs is missing: apt-get install git-lfs")


def test_push_and_pull(hub: Hub, tmp_path: Path):
    history = History(hub.vault, IncomingFiles(hub.vault))
    history.create_repo("me/model", Message("initial commit"))
    token = hub.token("write", "me")
    (tmp_path / "home").mkdir()
    env = client_environment(tmp_path / "home", {"GIT_CONFIG_NOSYSTEM": "1"})

    def git(folder: Path, *arguments: str) -> None:
        checked(["git", *arguments], env, folder)

    def prepare(folder: Path) -> None:
        # A password, as a credential helper would give it.
        address = hub.url.replace("://", f"://me:{token}@")
        git(folder, "config", "user.name", "me")
        git(folder, "config", "user.email", "me@example.org")
        git(folder, "lfs", "install", "--local")
        git(folder, "config", "lfs.url", f"{address}/me/model.git/info/lfs")

    bare, first, second = tmp_path / "bare", tmp_path / "first", tmp_path / "second"
    checked(["git", "init", "--bare", "-q", "-b", "main", str(bare)], env)
    checked(["git", "init", "-q", "-b", "main", str(first)], env)
    prepare(first)
    git(first, "lfs", "track", "*.bin")
    (first / "weights.bin").write_bytes(CONTENT)
    git(first, "add", ".")
    git(first, "commit", "-q", "-m", "weights")
    git(first, "remote", "add", "origin", str(bare))
    git(first, "push", "-q", "origin", "main")

    skipped = {**env, "GIT_LFS_SKIP_SMUDGE": "1"}
    checked(["git", "clone", "-q", str(bare), str(second)], skipped)
    prepare(second)
    assert (second / "weights.bin").stat().st_size < 200
    git(second, "lfs", "pull")
    assert (second / "weights.bin").read_bytes() == CONTENT
    # Pushing it again sends nothing, as it is there.
    before = [info.key for info in hub.vault.backend.list()]
    git(first, "lfs", "push", "--all", "origin")
    assert [info.key for info in hub.vault.backend.list()] == before
