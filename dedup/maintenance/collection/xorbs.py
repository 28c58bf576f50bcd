"""Which objects of xorbs a collection may take (dedup/maintenance/gc.py)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ....store.backend import ObjectInfo
from ....store.catalogue.catalogue import Catalogue
from ....store.catalogue.files.xorbs import (
    forget_ended,
    forget_generations,
    forget_xorbs,
    list_generations,
    list_xorbs,
)
from ....store.object_keys import XORBS
from ...transfer.uploads import KEEP_SECONDS
from ...xet.stored import data_key, index_key

# Much longer than the tokens hold by which an upload goes on to a generation that has ended.
_ENDED_SECONDS = 24 * 3600.0

Objects = Mapping[str, ObjectInfo]


def forget_unused(catalogue: Catalogue, objects: Objects, now: float, grace_seconds: float) -> None:
    """Forgets the xorbs that no client counts on any more.

    That is after three weeks without use, or after the grace where no shard ever named one: the
    client that sent it was killed. A client that names one all the same is told to start over.
    """
    forget_xorbs(catalogue, now - KEEP_SECONDS, now - grace_seconds)
    forget_ended(catalogue, now - min(grace_seconds, _ENDED_SECONDS))
    generations = list_generations(catalogue)
    left = {_generation_of(key) for key in objects if key.startswith(XORBS)}
    ended = {name for name, present in generations.items() if not present}
    forget_generations(catalogue, ended - left)


def find_dead(catalogue: Catalogue, objects: Objects, now: float) -> Iterator[str]:
    """Yields the keys of objects that belong to no xorb.

    Another catalogue of the same store may know what this one does not; no client counts on that
    either once it is three weeks old.
    """
    needed = set()
    for generation, digest, kept in list_xorbs(catalogue):
        needed.add(index_key(generation, digest))
        if kept:
            needed.add(data_key(generation, digest))
    generations = list_generations(catalogue)
    for key, info in objects.items():
        if key.startswith(XORBS) and key not in needed:
            known = _generation_of(key) in generations
            if known or info.modified < now - KEEP_SECONDS:
                yield key


def _generation_of(key: str) -> str:
    return key.removeprefix(XORBS).partition("/")[0]
