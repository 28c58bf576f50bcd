"""The object that says what a store is: its format and the features it uses, so that a newer one is
refused and not misread, and its identity, so that a catalogue is never used with another store than
its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from uuid import uuid4

from ...store.backend import Backend
from ...store.catalogue.catalogue import Catalogue
from ...store.errors import NotFound
from ..errors import Corrupt, VaultError

FORMAT_VERSION = 1
# Names of what a store may use beyond its format and whoever opens it must know: a newer
# weightvault adds one to the marker before it first writes what an older one would misread.
FEATURES: frozenset[str] = frozenset()
_KEY = "weightvault.json"


@dataclass(frozen=True, slots=True)
class Marker:
    """What the object says: the store's identity, 32 hexadecimal digits, and its features."""

    store_id: str
    features: frozenset[str] = frozenset()


def read_marker(backend: Backend) -> Marker | None:
    """Returns the store's marker, None where it has none yet: nothing was ever put there.

    Raises VaultError for a store of a newer format or with unknown features, Corrupt for a marker
    that is none.
    """
    try:
        return parse_marker(backend.get(_KEY))
    except NotFound:
        return None


def parse_marker(data: bytes) -> Marker:
    """Reads a marker; raises as `read_marker` does."""
    try:
        outline = json.loads(data)
        version, store_id = outline["format"], str(outline["id"])
        features = frozenset(map(str, outline.get("features", [])))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"{_KEY} is damaged; this may be no weightvault store") from error
    if version != FORMAT_VERSION:
        raise VaultError(
            f"this store has format {version}; this weightvault reads {FORMAT_VERSION}",
            "upgrade weightvault",
        )
    if features - FEATURES:
        raise VaultError(
            f"this store uses what this weightvault does not know: {', '.join(sorted(features))}",
            "upgrade weightvault",
        )
    return Marker(store_id, features)


def check_marker(data: bytes, store_id: str | None) -> None:
    """Raises Corrupt unless `data` is what write_marker wrote for that store, or did before there
    were features."""
    before = json.dumps({"format": FORMAT_VERSION, "id": store_id}).encode()
    if data not in (_marker_bytes(store_id), before):
        raise Corrupt("the store's marker is damaged")


def match_catalogue(backend: Backend, catalogue: Catalogue) -> None:
    """Ties a new catalogue to the store; raises VaultError where it belongs to another one.

    A catalogue that outlived its store believes chunks to be stored that are gone: pushes would
    send too little.
    """
    marker = read_marker(backend)
    found = marker.store_id if marker else None
    known = catalogue.store_id()
    # One without an identity was opened before the store had one, and has read its journal at most;
    # an empty one may have an identity that was never written to a store.
    if known is None or catalogue.is_empty():
        if found is not None:
            catalogue.set_store_id(found)
    elif known != found:
        what = "another store than this one" if found else "a store that was here and is gone"
        raise VaultError(
            f"the catalogue {catalogue.url} belongs to {what}",
            "if the address is right, delete the catalogue: it is rebuilt from the objects",
        )


def write_marker(backend: Backend, catalogue: Catalogue) -> None:
    """Marks a new store. Everybody who shares the catalogue writes the same identity; of several
    with catalogues of their own the first one's counts, and the others take it over."""
    if catalogue.store_id() is not None and backend.exists(_KEY):
        return
    if read_marker(backend) is None:
        backend.put_new(_KEY, _marker_bytes(catalogue.store_id(default=uuid4().hex)))
    match_catalogue(backend, catalogue)


def restore_marker(backend: Backend, catalogue: Catalogue) -> None:
    """Makes a damaged or lost marker anew, if the catalogue says which store it belongs to."""
    store_id = catalogue.store_id()
    try:
        damaged = backend.get(_KEY) != _marker_bytes(store_id)
    except NotFound:
        damaged = True
    if damaged and store_id is not None and _has_packs(backend, catalogue):
        backend.put(_KEY, _marker_bytes(store_id))


def _has_packs(backend: Backend, catalogue: Catalogue) -> bool:
    """Says whether the store holds packs that the catalogue knows: it is no other store."""
    known = catalogue.pack_names()
    return any(info.key.rpartition("/")[2] in known for info in backend.list("packs/"))


def _marker_bytes(store_id: str | None) -> bytes:
    return json.dumps({"features": [], "format": FORMAT_VERSION, "id": store_id}).encode()
