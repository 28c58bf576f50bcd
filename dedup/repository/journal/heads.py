"""Objects that say how far the journal goes: without them nobody would miss its newest entries.

Each catalogue has one, `heads/ID`, ID being the catalogue's identity: those who share it take
turns, and nobody else changes it. It names entries that are durable, and may lag behind: it is
written with each change of a token, when a command ends, and every few seconds by a server that has
something new to say (FORMAT.md, Heads).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from blake3 import blake3

from ....store.backend import Backend, check_key
from ....store.catalogue.catalogue import Catalogue
from ....store.catalogue.damage import get_setting, set_setting
from ....store.catalogue.lost_entries import has_published, publish_heads
from ....store.catalogue.tombstones import catalogue_id
from ....store.errors import InvalidKey, NotFound
from ....store.object_keys import HEADS, JOURNAL
from ...errors import Corrupt, VaultError

VERSION = 1
_WRITTEN = "heads_written"


@dataclass(frozen=True, slots=True)
class Heads:
    """The keys that all objects name, and the keys of objects that are damaged."""

    named: frozenset[str]
    damaged: tuple[str, ...]


def write_heads(backend: Backend, catalogue: Catalogue, *, wait: bool = True) -> None:
    """Writes the object of this catalogue, unless it says already what it would say. Without `wait`
    nothing is done while somebody else is at it."""
    if not has_published(catalogue, _WRITTEN):
        key = heads_key(catalogue)

        def put(heads: tuple[str, ...]) -> None:
            backend.put(key, _pack(heads))

        publish_heads(catalogue, _WRITTEN, put, wait=wait)


def announce(backend: Backend, catalogue: Catalogue) -> bool:
    """Lets others see that there is this catalogue, unless they do; says whether they did not."""
    if get_setting(catalogue, _WRITTEN):
        return False
    write_heads(backend, catalogue)
    return True


def heads_key(catalogue: Catalogue) -> str:
    """Returns the key of a catalogue's object."""
    return f"{HEADS}{catalogue_id(catalogue)}"


def rebuild_heads(backend: Backend, catalogue: Catalogue, key: str) -> None:
    """Rebuilds a damaged object; that of another catalogue goes, which writes it again."""
    if key == heads_key(catalogue):
        set_setting(catalogue, _WRITTEN, None)
        write_heads(backend, catalogue)
    else:
        backend.delete(key)


def read_heads(backend: Backend) -> Heads:
    """Reads all objects. Raises VaultError for one of a newer version."""
    named: set[str] = set()
    damaged = []
    for key in [info.key for info in backend.list(HEADS)]:
        try:
            named.update(parse_heads(key, backend.get(key)))
        except NotFound:
            continue
        except Corrupt:
            damaged.append(key)
    return Heads(frozenset(named), tuple(damaged))


def parse_heads(key: str, data: bytes) -> list[str]:
    """Returns the keys that an object names; raises Corrupt unless it is whole."""
    try:
        outline = json.loads(data)
        if outline["version"] != VERSION:
            raise VaultError(f"{key} is too new", "upgrade weightvault")
        heads = [check_key(JOURNAL + name) for name in outline["heads"]]
    except (ValueError, KeyError, TypeError, InvalidKey) as error:
        raise Corrupt(f"{key} is damaged", "`weightvault repair` rebuilds it") from error
    if _pack(heads) != data:
        raise Corrupt(f"{key} is damaged", "`weightvault repair` rebuilds it")
    return heads


def _pack(heads: Collection[str]) -> bytes:
    names = [key.removeprefix(JOURNAL) for key in heads]
    check = blake3("\n".join(names).encode()).hexdigest()
    outline = {"check": check, "heads": names, "version": VERSION}
    return json.dumps(outline, separators=(",", ":"), sort_keys=True).encode()
