"""A mirror in front of a hub that answers as the public one does."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from weightvault.api.mirror.mirror import Mirror
from weightvault.dedup.local_vault import LocalVault

NAME = "org/model"
WEIGHTS = random.Random(1).randbytes(300_000)
FILES = {
    "README.md": b"# A model\n",
    "config.json": b'{"model_type": "none"}',
    "empty.txt": b"",
    "nested/merges.txt": b"a b\n",
    "weights.bin": WEIGHTS,
}
SERVER_TOKEN = "hf_serverserverserverserverserverserver"


@dataclass
class Front:
    """A mirror, its vault and a client of it."""

    url: str
    vault: LocalVault
    web: httpx.Client
    mirror: Mirror

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.web.get(path, **options)

    def whole(self, files: Mapping[str, bytes] = FILES, headers: Mapping[str, str] = {}) -> str:
        """Reads all files of the repo as a client does; returns the commit."""
        sha = self.get(f"/api/models/{NAME}/revision/main", headers=headers).json()["sha"]
        tree = self.get(f"/api/models/{NAME}/tree/{sha}?recursive=true", headers=headers).json()
        assert {e["path"] for e in tree if e["type"] == "file"} == set(files)
        assert not any("xetHash" in entry for entry in tree)
        for path, data in files.items():
            answer = self.get(f"/{NAME}/resolve/{sha}/{path}", headers=headers)
            assert answer.status_code == 200, answer.text
            assert answer.content == data
            assert answer.headers["x-repo-commit"] == sha
        return sha


def committed(front: Front, repo: str = NAME) -> bool:
    return front.vault.catalogue.has_repo(repo) and not front.mirror.fetches.busy_with(repo)
