"""The keys of all objects of a store, by kind (FORMAT.md, "Store").

A key begins with the folder of its kind. Those of packs and of what lies beside them, and of
manifests, have a folder more, the first two digits of the name, so that no folder gets too long.
"""

from __future__ import annotations

from .errors import InvalidKey

PACKS = "packs/"
SKETCHES = "sketches/"
MANIFESTS = "manifests/"
JOURNAL = "journal/"
HEADS = "heads/"
XORBS = "xorbs/"
UPLOADS = "uploads/"
"""Parts of long uploads until the last one is there."""
QUARANTINE = "quarantine/"
"""Damaged objects that were replaced."""
MARKER = "weightvault.json"
"""Says what a store is."""

XORB_INDEX = ".index"
_NAME_DIGITS = 64


def pack_key(name: str) -> str:
    """Returns the key of a pack, "packs/ab/abcdef…". Raises InvalidKey unless 64 hex characters."""
    if len(name) != _NAME_DIGITS or not set(name) <= set("0123456789abcdef"):
        raise InvalidKey(f"not the name of a pack: {name!r}")
    return known_pack_key(name)


def known_pack_key(name: str) -> str:
    """As `pack_key`, of a pack that is on record: its name was checked when it came."""
    return _spread(PACKS, name)


def sketches_key(pack: str) -> str:
    """Returns the key of the sketches of the pack of that name."""
    return _spread(SKETCHES, pack)


def manifest_key(name: str) -> str:
    """Returns the key of a manifest."""
    return _spread(MANIFESTS, name)


def xorb_key(generation: str, name: str) -> str:
    """Returns the key of a xorb's chunks."""
    return f"{XORBS}{generation}/{name}"


def xorb_index_key(generation: str, name: str) -> str:
    """Returns the key of a xorb's index."""
    return xorb_key(generation, name) + XORB_INDEX


def is_pack(key: str) -> bool:
    """Says whether the object of a key is a pack."""
    return key.startswith(PACKS)


def name_of(key: str) -> str:
    """Returns the last part of a key: what its object is called among those of its kind."""
    return key.rpartition("/")[2]


def folder_of(key: str) -> str:
    """Returns the first part of a key with its slash: the kind of its object; all of a key without
    folders."""
    folder, slash, _ = key.partition("/")
    return folder + slash


def _spread(folder: str, name: str) -> str:
    return f"{folder}{name[:2]}/{name}"
