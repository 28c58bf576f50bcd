"""Backends of every kind, each with a look at what lies where it keeps its objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weightvault.store.backend import Backend
from weightvault.store.backends.cache import CachedBackend
from weightvault.store.backends.local import LocalBackend
from weightvault.store.backends.memory import MemoryBackend
from weightvault.store.backends.s3 import S3Backend

KIB = 1 << 10
# Small enough that the tests' larger objects go up in several parts.
PART_BYTES = 64 * KIB
# S3's own least size of all parts but the last.
LEAST_PART_BYTES = 5 << 20


@dataclass
class Place:
    """A backend and what lies where it keeps its objects."""

    backend: Backend
    raw: Callable[[], dict[str, bytes]]


def local_place(folder: Path) -> Place:
    """A folder."""
    root = folder / "vault"

    def raw() -> dict[str, bytes]:
        files = (path for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(root)): path.read_bytes() for path in files}

    return Place(LocalBackend(root), raw)


def memory_place() -> Place:
    """Memory."""
    backend = MemoryBackend()
    return Place(backend, lambda: {key: data for key, (data, _) in backend._objects.items()})


def cached_place(folder: Path) -> Place:
    """A cache in a folder, in front of memory."""
    inner = MemoryBackend()
    cached = CachedBackend(inner, folder / "cache", 1 << 20)
    return Place(cached, lambda: {key: data for key, (data, _) in inner._objects.items()})


def s3_place(client: Any, bucket: str, part_bytes: int = PART_BYTES) -> Place:
    """A bucket, with keys below a prefix."""

    def raw() -> dict[str, bytes]:
        keys = [item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", [])]
        assert all(key.startswith("vault/") for key in keys)
        return {
            key.removeprefix("vault/"): client.get_object(Bucket=bucket, Key=key)["Body"].read()
            for key in keys
        }

    backend = S3Backend(
        bucket,
        "vault",
        client=client,
        multipart_from_bytes=4 * PART_BYTES,
        part_bytes=part_bytes,
    )
    return Place(backend, raw)
