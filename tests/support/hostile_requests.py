"""A server to attack over HTTP, and bodies that are small and ask for much."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import zstandard
from live_server import serving
from models import make_weights, write_model
from vaults import open_local

from weightvault.api.requests.settings import ServerSettings
from weightvault.api.server.app import create_app
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.transfer.push import push


@dataclass(frozen=True, slots=True)
class Target:
    """A client of a server, and the vault that it serves."""

    http: httpx.Client
    vault: LocalVault


@contextmanager
def attacked(root: Path, **settings: Any) -> Iterator[Target]:
    """A running server of an empty vault in `root`; `settings` are those of ServerSettings."""
    vault = open_local(root)
    app = create_app(vault, ServerSettings(**settings))
    with serving(app) as url, httpx.Client(base_url=url, trust_env=False, timeout=120) as http:
        yield Target(http, vault)
    vault.close()


def push_card(target: Target, folder: Path, card: str, repo: str = "org/m") -> None:
    """Pushes a small model with `card` as its README.md."""
    push(target.vault, write_model(folder, make_weights(1), card), repo)


def make_manifest(outline: bytes, digests: list[bytes]) -> bytes:
    """The bytes of a manifest with a JSON text of any content."""
    stored = zstandard.ZstdCompressor(level=9).compress(outline)
    head = b"\x89WVM\x01\0\0\0" + b"".join(
        n.to_bytes(4, "little") for n in (len(digests), len(outline), len(stored))
    )
    return head + b"".join(digests) + stored


def make_files(paths: list[str], digest: str = "00" * 32) -> bytes:
    """The bytes of a manifest of empty files, with `digest` as theirs."""
    files = [{"path": p, "size": 0, "blake3": digest, "segments": []} for p in paths]
    return make_manifest(json.dumps({"chunk_bytes": 1 << 25, "files": files}).encode(), [])


def commit_lines(*lines: Any) -> bytes:
    """The body of a hub commit with a header and these further lines."""
    header = {"key": "header", "value": {"summary": "s"}}
    return b"\n".join(json.dumps(line).encode() for line in (header, *lines))
