"""The objects of a xorb: their keys, and whether what is stored is what the key says."""

from __future__ import annotations

from ...store.backend import Backend
from ...store.errors import NotFound
from ...store.object_keys import XORB_INDEX, xorb_index_key, xorb_key
from ..errors import Corrupt
from .hashes import format_hash, parse_hash
from .index import parse_index


def check_xorb(backend: Backend, key: str, data: bytes) -> None:
    """Raises Corrupt if an object of a xorb is not what its key says: an index by the xorb's hash,
    chunks by the index, without which nobody can name them."""
    name = key.rpartition("/")[2]
    digest = parse_hash(name.removesuffix(XORB_INDEX))
    if name.endswith(XORB_INDEX):
        parse_index(digest, data)
        return
    try:
        index = parse_index(digest, backend.get(key + XORB_INDEX))
    except (NotFound, Corrupt):
        # The index is told of by itself.
        return
    for chunk in range(len(index)):
        if not index.matches(chunk, data[index.offset(chunk) : index.offset(chunk + 1)]):
            raise Corrupt(f"chunk {chunk} of xorb {name} is damaged")
    if index.size != len(data):
        raise Corrupt(f"xorb {name} has {len(data)} bytes, not {index.size}")


def data_key(generation: str, digest: bytes) -> str:
    """Returns the key of a xorb's chunks."""
    return xorb_key(generation, format_hash(digest))


def index_key(generation: str, digest: bytes) -> str:
    """Returns the key of a xorb's index."""
    return xorb_index_key(generation, format_hash(digest))
