"""The object that says what kind of store this is, so that a newer one is refused, not misread."""

from __future__ import annotations

import json

from ..store.backend import Backend
from ..store.errors import NotFound
from .errors import Corrupt, VaultError

FORMAT_VERSION = 1
_KEY = "weightvault.json"


def check_marker(backend: Backend) -> None:
    """Raises VaultError for a store of a newer format; a store without a marker is new."""
    try:
        data = backend.get(_KEY)
    except NotFound:
        return
    try:
        version = json.loads(data)["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{_KEY} is damaged; this may be no weightvault store") from error
    if version != FORMAT_VERSION:
        raise VaultError(
            f"this store has format {version}; this weightvault reads {FORMAT_VERSION}",
            "upgrade weightvault",
        )


def write_marker(backend: Backend) -> None:
    """Marks a store as weightvault's, unless it is marked."""
    if not backend.exists(_KEY):
        backend.put(_KEY, json.dumps({"format": FORMAT_VERSION}).encode())
