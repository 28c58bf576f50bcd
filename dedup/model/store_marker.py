"""The object that says what a store is: its format and the features it uses, so that a newer one is
refused and not misread, and its identity, so that a catalogue is never used with another store than
its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from uuid import uuid4

from ...store.backend import Backend
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.damage import get_setting, set_setting
from ...store.catalogue.tokens import CLOSED, has_tokens, was_closed
from ...store.errors import NotFound
from ...store.object_keys import MARKER, PACKS, name_of
from ..errors import Corrupt, VaultError

FORMAT_VERSION = 1
# Names of what a store may use beyond its format and whoever opens it must know: a newer
# weightvault adds one to the marker before it first writes what an older one would misread.
FEATURES: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Marker:
    """What the object says: the store's identity, 32 hexadecimal digits, its features, and whether
    it is `closed`: a token was made once, so that nobody is admitted without one ever again."""

    store_id: str
    features: frozenset[str] = frozenset()
    closed: bool = False


def read_marker(backend: Backend) -> Marker | None:
    """Returns the store's marker, None where it has none yet: nothing was ever put there.

    Raises VaultError for a store of a newer format or with unknown features, Corrupt for a marker
    that is none.
    """
    try:
        return parse_marker(backend.get(MARKER))
    except NotFound:
        return None


def parse_marker(data: bytes) -> Marker:
    """Reads a marker; raises as `read_marker` does."""
    try:
        outline = json.loads(data)
        version, store_id = outline["format"], str(outline["id"])
        features = frozenset(map(str, outline.get("features", [])))
        closed = bool(outline.get("closed", False))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"{MARKER} is damaged; this may be no weightvault store") from error
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
    return Marker(store_id, features, closed)


def check_marker(data: bytes, store_id: str | None) -> None:
    """Raises Corrupt unless `data` is what write_marker or close_store wrote for that store, or did
    before there were features."""
    before = json.dumps({"format": FORMAT_VERSION, "id": store_id}).encode()
    if data not in (_marker_bytes(store_id), _marker_bytes(store_id, closed=True), before):
        raise Corrupt("the store's marker is damaged")


def match_catalogue(backend: Backend, catalogue: Catalogue) -> None:
    """Ties a new catalogue to the store; raises VaultError where it belongs to another one.

    A catalogue that outlived its store believes chunks to be stored that are gone: pushes would
    send too little.
    """
    marker = read_marker(backend)
    if marker:
        note_closed(catalogue, marker)
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
    if catalogue.store_id() is not None and backend.exists(MARKER):
        return
    if read_marker(backend) is None:
        backend.put_new(MARKER, _marker_bytes(catalogue.store_id(default=uuid4().hex)))
    match_catalogue(backend, catalogue)


def note_closed(catalogue: Catalogue, marker: Marker) -> None:
    """Lets the catalogue know what the marker says, whatever the journal tells: it may have been
    cut. Before a catalogue gives up the tokens it knows, it notes that there were some."""
    if get_setting(catalogue, CLOSED) is None and (marker.closed or has_tokens(catalogue)):
        set_setting(catalogue, CLOSED, "yes")


def close_store(backend: Backend, catalogue: Catalogue) -> None:
    """Notes in the marker that there are tokens, unless it says so. After the entry that makes the
    first one is durable: a marker that was ahead of it would lock everybody out."""
    marker = read_marker(backend)
    if marker is None or not marker.closed:
        backend.put(MARKER, _marker_bytes(catalogue.store_id(), closed=True))


def restore_marker(backend: Backend, catalogue: Catalogue) -> None:
    """Rebuilds a damaged or lost marker, if the catalogue says which store it belongs to."""
    store_id, closed = catalogue.store_id(), was_closed(catalogue)
    right = _marker_bytes(store_id, closed=closed)
    try:
        damaged = backend.get(MARKER) != right
    except NotFound:
        damaged = True
    if damaged and store_id is not None and _has_packs(backend, catalogue):
        backend.put(MARKER, right)


def _has_packs(backend: Backend, catalogue: Catalogue) -> bool:
    """Says whether the store holds packs that the catalogue knows: it is no other store."""
    known = catalogue.pack_names()
    return any(name_of(info.key) in known for info in backend.list(PACKS))


def _marker_bytes(store_id: str | None, *, closed: bool = False) -> bytes:
    outline = {"features": [], "format": FORMAT_VERSION, "id": store_id}
    return json.dumps({**outline, **({"closed": True} if closed else {})}).encode()
