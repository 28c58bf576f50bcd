"""A server to attack: a vault with repos and tokens, in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...api.config import open_local_vault
from ...api.requests.tokens import create_token
from ...dedup.local_vault import LocalVault
from ...dedup.transfer.push import push
from ...dedup.transfer.refs import History
from ...dedup.transfer.uploads import IncomingFiles
from ..support.servers import running_server
from ..support.tiny_models import write_tiny_model

ROLES = ("none", "read", "namespaced", "admin")
"""Who asks: nobody, a token that reads one namespace, one that writes there, one for everything."""
OWN = "acme"


@dataclass(frozen=True, slots=True)
class Target:
    """A running server, the secrets of its tokens by role ("" for nobody), and what it has: repos,
    commits, paths, tensors, digests of chunks, SHA-256 of files, packs and manifests as bytes."""

    url: str
    process: int
    secrets: dict[str, str]
    repos: list[str]
    commits: list[str]
    paths: list[str]
    tensors: list[str]
    digests: list[bytes]
    hashes: list[str]
    packs: list[bytes]
    manifests: list[bytes]

    def headers(self, role: str) -> dict[str, str]:
        """The headers that say who asks."""
        secret = self.secrets[role]
        return {"Authorization": f"Bearer {secret}"} if secret else {}


@contextmanager
def running_target(root: Path, address: str | None = None) -> Iterator[Target]:
    """A server of a vault that is filled, at an address or in a folder of `root`."""
    address = address or str(root / "vault")
    vault = open_local_vault(address)
    try:
        found = _fill(vault, root)
        secrets = {
            "none": "",
            "read": create_token(vault, "reader", "read", OWN).secret,
            "namespaced": create_token(vault, "writer", "write", OWN).secret,
            "admin": create_token(vault, "admin", "admin", None).secret,
        }
    finally:
        vault.close()
    with running_server(address) as server:
        yield Target(server.url, server.process.pid, secrets, **found)


def _fill(vault: LocalVault, root: Path) -> dict[str, list]:
    repos = [f"{OWN}/one", f"{OWN}/two", "other/public", "other/private"]
    commits = []
    for seed, repo in enumerate(repos):
        folder = write_tiny_model(root / "models" / str(seed), seed)
        (folder / "README.md").write_text(f"---\nlicense: mit\n---\n# Model {seed}\n")
        (folder / "notes").mkdir(exist_ok=True)
        (folder / "notes" / "more.txt").write_text("text\n" * 1000)
        (folder / "flat.bin").write_bytes(np.arange(50_000, dtype=np.float32).tobytes())
        commits.append(push(vault, folder, repo).commit.id)
    History(vault, IncomingFiles(vault)).set_public("other/public", True)
    manifest = vault.resolve(repos[0]).manifest
    objects = [o.key for o in vault.backend.list()]
    return {
        "repos": repos,
        "commits": commits,
        "paths": [entry.path for entry in manifest.files],
        "tensors": [tensor.name for entry in manifest.files for tensor in entry.tensors],
        "digests": list(manifest.digests()),
        "hashes": ["0" * 64, "f" * 64],
        "packs": [vault.backend.get(k) for k in objects if k.startswith("packs/")],
        "manifests": [vault.backend.get(k) for k in objects if k.startswith("manifests/")],
    }


def sketches_body(count: int, bits: str, words: int) -> bytes:
    """The body of a question for bases with many sketches."""
    sketch = {"dtype": "BF16", "size": 6144, "bits": bits, "words": "00" * words}
    return json.dumps({"sketches": [sketch] * count}).encode()
