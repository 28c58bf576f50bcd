"""Bounds what a request may make a server do: in proportion to the bytes that came for it.

What is told by reference costs nothing to send. A manifest of 300 bytes can say that one frame of
65 bytes, which decodes to 32 MiB of zeros, stands in a file a million times; a pack of 26 KB can
hold 400 such frames; a Xet shard can name one range of a xorb again and again. Files and models
that repeat themselves do exist, so each request has an allowance, and beyond that a multiple of the
bytes that are stored for it, or were sent for it. Files whose every byte travels, as those of
git-lfs do, need no bound.

Only servers ask for this: whoever has the vault itself may do with it as they like.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from ....store.catalogue.tables.rows import Location
from ....store.packs import PackEntry
from ...errors import TooExpensive
from ..inputs import Locate, locate_inputs, needed_by
from .entries import FileEntry
from .segments import CHUNK_BYTES, share_of

MIB = 1 << 20

# A file is hashed three ways, at some 600 MB a second: half a second of processor time.
FREE_BYTES = 256 * MIB
# Ten checkpoints with the same frozen weights, or an optimiser's state of zeros beside a model.
RATIO = 16
# Frames of a pack are decoded and hashed once, which takes a quarter of that for each byte.
FREE_PACK_BYTES = 4 * FREE_BYTES
PACK_RATIO = 4 * RATIO
# What looking up and placing one chunk costs besides, as bytes hashed.
USE_BYTES = 8 << 10
# What a chunk of its own is worth at least, however short its frame: its digest, its place.
_LEAST_FRAME_BYTES = 512


def check_files(entries: Iterable[FileEntry], chunk_bytes: int, locate: Locate) -> None:
    """Raises TooExpensive if rebuilding and hashing `entries` once each is out of proportion to the
    frames they need, which `locate` finds: all their chunks, and what these need. A chunk that
    small files share is read once for all of them."""
    uses: Counter[bytes] = Counter()
    shared: dict[bytes, int] = {}
    logical = shares = 0
    for entry in entries:
        logical += entry.size
        share = share_of(entry.segments)
        if share is None:
            uses.update(use.digest for use in entry.chunks(chunk_bytes))
        else:
            shares += 1
            shared[share.chunks[0]] = share.whole
    uses.update(shared.keys())
    places = locate(list(uses))
    under = locate_inputs(locate, places)
    decoded = sum(_input_bytes(place, under) * uses[digest] for digest, place in places.items())
    cost = logical + decoded + sum(shared.values()) + USE_BYTES * (uses.total() + shares)
    stored = sum(max(place.frame_bytes, _LEAST_FRAME_BYTES) for place in (places | under).values())
    # Each says the digest of another file, or it would not be looked at.
    stored += _LEAST_FRAME_BYTES * shares
    _require(cost, FREE_BYTES + RATIO * stored, f"files of {logical} bytes", stored)


def check_frames(
    entries: Collection[PackEntry], size: int, inputs: dict[bytes, Location], locate: Locate
) -> None:
    """Raises TooExpensive if decoding the frames of a pack of `size` bytes is out of proportion to
    it and to the frames of its `inputs` and of what these need, which `locate` finds."""
    raw = sum(entry.raw_bytes for entry in entries)
    under = locate_inputs(locate, inputs)
    each = {d: place.raw_bytes + _input_bytes(place, under) for d, place in inputs.items()}
    decoded = sum(each[digest] for entry in entries for digest in entry.inputs)
    cost = raw + decoded + USE_BYTES * len(entries)
    stored = size + sum(place.frame_bytes for place in (inputs | under).values())
    _require(cost, FREE_PACK_BYTES + PACK_RATIO * stored, f"chunks of {raw} bytes", stored)


def _input_bytes(place: Location, under: dict[bytes, Location]) -> int:
    """Returns the raw bytes of all that decoding a frame takes."""
    return sum(under[digest].raw_bytes for digest in needed_by(place, under) if digest in under)


def check_references(logical: int, uses: int, sent: int) -> None:
    """Raises TooExpensive if files of `logical` bytes, put together from ranges of what was sent as
    `sent` bytes, from `uses` pieces in all, are out of proportion to that."""
    cost = logical + USE_BYTES * uses
    _require(cost, FREE_BYTES + RATIO * sent, f"files of {logical} bytes", sent)


def check_repeats(digests: Sequence[bytes], sizes: Mapping[bytes, int]) -> None:
    """Raises TooExpensive if an answer with a frame for each of `digests` would repeat itself for
    long: `sizes` are those of chunks, others are as long as may be."""
    repeats = Counter(digests)
    repeats.subtract(repeats.keys())
    again = sum(sizes.get(digest, CHUNK_BYTES) * count for digest, count in repeats.items())
    if again > FREE_BYTES:
        raise TooExpensive(f"{again} bytes are asked for more than once", "ask for each once")


def _require(cost: int, allowed: int, what: str, stored: int) -> None:
    if cost > allowed:
        raise TooExpensive(
            f"{what} out of {stored} stored ones are more than a request may ask for here",
            "send the files themselves, over git-lfs as clients of hubs do (HF_HUB_DISABLE_XET=1), "
            "or push straight to the vault on the server's machine",
        )
