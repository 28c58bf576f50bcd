"""Objects that say how far the journal goes: without them nobody would miss its newest entries.

Each catalogue has one, `heads/ID`, ID being the catalogue's identity: those who share it take
turns, and nobody else changes it. It names entries that are durable, and may lag behind: it is
written with each change of a token, when a command ends, and every few seconds by a server that has
something new to say (FORMAT.md, Heads).

By their age these objects also tell which catalogues are at work. One is written again, before its
catalogue counts on what others may remove, where that was last done a day ago; so one that is a
week older than the newest is of a catalogue that was lost or rests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from blake3 import blake3

from ....store.backend import Backend, ObjectInfo, check_key
from ....store.catalogue.catalogue import Catalogue
from ....store.catalogue.damage import get_setting, set_setting
from ....store.catalogue.lost_entries import (
    find_heads,
    has_published,
    publish_heads,
    remember_named,
)
from ....store.catalogue.tombstones import catalogue_id
from ....store.errors import InvalidKey, NotFound
from ....store.object_keys import HEADS, JOURNAL
from ...errors import Corrupt, VaultError

VERSION = 1
_WRITTEN = "heads_written"
_SHOWN = "heads_shown"
SHOW_SECONDS = 24 * 3600.0
AT_WORK_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Heads:
    """The keys that all objects name, and the keys of objects that are damaged."""

    named: frozenset[str]
    damaged: tuple[str, ...]


def write_heads(
    backend: Backend, catalogue: Catalogue, *, wait: bool = True, again: bool = False
) -> None:
    """Writes the object of this catalogue, unless it says already what it would say; then only
    `again`. Without `wait` nothing is done while somebody else is at it."""
    if again or not has_published(catalogue, _WRITTEN):
        key = heads_key(catalogue)

        def put(heads: tuple[str, ...]) -> None:
            backend.put(key, _pack(heads))

        publish_heads(catalogue, _WRITTEN, put, wait=wait)


def is_shown(catalogue: Catalogue) -> bool:
    """Says whether others see by the age of its object that this catalogue is at work, or there is
    no journal yet."""
    shown = float(get_setting(catalogue, _SHOWN) or 0.0)
    return abs(time.time() - shown) < SHOW_SECONDS or not find_heads(catalogue)


def note_shown(catalogue: Catalogue, when: float) -> None:
    """Notes that the object was written at the Unix time `when`, and the journal read since."""
    set_setting(catalogue, _SHOWN, str(when))


def others_at_work(catalogue: Catalogue, objects: Iterable[ObjectInfo]) -> list[ObjectInfo]:
    """Returns those of `objects` that tell of other catalogues that are at work, or of a backup
    that is being made. Their ages are told by the clock of the store alone."""
    heads = [info for info in objects if info.key.startswith(HEADS)]
    least = max((info.modified for info in heads), default=0.0) - AT_WORK_SECONDS
    own = heads_key(catalogue)
    return [info for info in heads if info.key != own and info.modified > least]


def forget_others(backend: Backend, catalogue: Catalogue) -> int:
    """Takes the objects of all other catalogues away; returns how many. What they say of the
    journal this one says from now on. Raises Corrupt where one is damaged."""
    heads = read_heads(backend)
    if heads.damaged:
        raise Corrupt(f"{heads.damaged[0]} is damaged", "`weightvault repair` rebuilds it")
    own = heads_key(catalogue)
    others = [info.key for info in backend.list(HEADS) if info.key != own]
    if others:
        remember_named(catalogue, catalogue.unknown_entries(heads.named))
        write_heads(backend, catalogue, again=True)
        for key in others:
            backend.delete(key)
    return len(others)


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
