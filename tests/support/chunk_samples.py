"""Digests and entries of packs that stand for anything, for tests of the catalogue."""

from __future__ import annotations

from blake3 import blake3

from weightvault.store.packs import PackEntry


def digest(*parts: object) -> bytes:
    """A digest that stands for anything."""
    return blake3(repr(parts).encode()).digest()


def entry(name: object, base: object = None, offset: int = 8) -> PackEntry:
    """A frame of 100 bytes of a chunk of 200."""
    inputs = () if base is None else (digest(base),)
    return PackEntry(digest(name), offset, 100, 200, 3, 12, inputs)
