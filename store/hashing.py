"""BLAKE3 by all processors, except where that would never end."""

from __future__ import annotations

import os

from blake3 import blake3

_many = blake3.AUTO


def many_threads() -> int:
    """Returns the `max_threads` for a hash of much data.

    One in a process that was forked: the threads that hash are the parent's, and a child would wait
    for them for ever.
    """
    return _many


def _hash_alone() -> None:
    global _many
    _many = 1


os.register_at_fork(after_in_child=_hash_alone)
