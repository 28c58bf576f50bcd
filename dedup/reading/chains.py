"""Reads chunks with all that their frames rest on: chains of deltas, a link at a time.

What one chunk needs is bounded by the levels in the frames themselves, each below that of what
needs it, so that no pack can make a circle, or a chain longer than MAX_CHAIN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...codecs.errors import FrameError
from ...codecs.frame import FrameHeader
from ..errors import Corrupt
from .base_cache import BaseCache, Buffer
from .buffer_pool import BUFFERS
from .timed_codecs import decode_tensor

Frames = dict[bytes, tuple[FrameHeader, bytes]]
FetchSized = Callable[[Mapping[bytes, int | None]], Frames]


@dataclass(frozen=True, slots=True)
class Need:
    """What is asked of an input: the bytes that it must have (None for any) and the level that its
    frame must be below."""

    size: int | None
    below: int


class MovedError(Corrupt):
    """An input has too high a level by now: its family was re-encoded, or the store is damaged."""


def check_level(header: FrameHeader, below: int) -> None:
    """Raises MovedError for a frame that is no input of what is of the level `below`."""
    if header.level >= below:
        name, level = header.digest.hex(), header.level
        raise MovedError(f"chunk {name} has level {level} where it must be below {below}")


def bases_needed(frames: Frames) -> dict[bytes, Need]:
    """Returns the bases of the deltas among `frames`; the size of one that may have any is None."""
    needs: dict[bytes, Need] = {}
    for header, _ in frames.values():
        if header.base_digest is not None:
            other = needs.get(header.base_digest)
            below = header.level if other is None else min(header.level, other.below)
            needs[header.base_digest] = Need(header.base_bytes, below)
    return needs


def load_chains(
    needs: Mapping[bytes, Need],
    fetch: FetchSized,
    cache: BaseCache,
) -> dict[bytes, Buffer]:
    """Returns the raw bytes of chunks by digest, which are standalone or deltas, and keeps them in
    the cache. `fetch` gets the frames of those that are not there, then those of their bases, and
    so on.

    Of a chain two links at a time are in memory, besides its frames and what the cache keeps.
    Raises MovedError, Corrupt, and what `fetch` does.
    """
    links: list[Frames] = []
    kept: list[dict[bytes, Buffer]] = []
    while needs:
        found = {digest: cache.get(digest) for digest in needs}
        kept.append({digest: raw for digest, raw in found.items() if raw is not None})
        absent = {digest: need for digest, need in needs.items() if digest not in kept[-1]}
        frames = fetch({d: need.size for d, need in absent.items()}) if absent else {}
        for digest, (header, _) in frames.items():
            check_level(header, absent[digest].below)
        links.append(frames)
        needs = bases_needed(frames)
    raws: dict[bytes, Buffer] = {}
    for frames, cached in zip(reversed(links), reversed(kept), strict=True):
        raws = cached | {d: _decode_link(*found, raws) for d, found in frames.items()}
        for digest in frames:
            cache.put(digest, raws[digest])
    return raws


def _decode_link(header: FrameHeader, frame: bytes, bases: Mapping[bytes, Buffer]) -> Buffer:
    return decode_whole(frame, bases.get(header.base_digest or b""), header)


def decode_whole(frame: bytes, base: Buffer | None, header: FrameHeader) -> Buffer:
    """Returns the raw bytes of a frame, verified against its digest. Raises Corrupt."""
    try:
        room = BUFFERS.take(header.raw_bytes)
        return decode_tensor(frame, base=base, base_digest=header.base_digest, out=room)
    except FrameError as error:
        raise Corrupt(f"chunk {header.digest.hex()} does not decode: {error}") from error
