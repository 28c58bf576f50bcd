"""Frames as they are sent: to whoever may read a repo but not all others none that needs a chunk of
theirs, and to nobody one that is derived.

A chunk may be stored as a delta on one of another owner, and who decodes deltas is given their
bases. So here every chunk comes as a frame of its own, raw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ....codecs.frame import parse_header
from ...errors import ChunksMissing
from ...model.files.entries import ChunkUse
from ...reading.chunk_reader import ChunkReader
from ...reading.timed_codecs import encode_tensor
from ...repository.repository import Repository


def read_standalone(
    vault: Repository, repo: str, revision: str, digests: Sequence[bytes]
) -> Iterator[bytes]:
    """Returns raw frames of chunks of a revision, in that order. Raises ChunksMissing for any
    others, bases of its deltas included."""
    sizes = vault.resolve(repo, revision).manifest.digests()
    refused = [digest for digest in digests if digest not in sizes]
    if refused:
        raise ChunksMissing(f"{repo} at {revision} has no chunk {refused[0].hex()}")
    chunks = ChunkReader(vault.fetch_frames).read(
        ChunkUse(digest, 0, sizes[digest], "U8") for digest in digests
    )
    return (
        encode_tensor(raw, "U8", codec="raw", digest=digest)
        for digest, raw in zip(digests, chunks, strict=True)
    )


def read_sendable(
    vault: Repository, repo: str, revision: str, digests: Sequence[bytes]
) -> Iterator[bytes]:
    """Returns frames of chunks of a revision, in that order: as they are stored, but standalone
    where they are derived, since a copy is most often smaller than what it is computed from.
    Raises ChunksMissing as `read_frames` does."""
    reader = ChunkReader(vault.fetch_frames)
    for frame in vault.read_frames(repo, revision, digests):
        header = parse_header(frame)
        if not header.is_derived:
            yield frame
            continue
        (raw,) = reader.read([ChunkUse(header.digest, 0, header.raw_bytes, "U8")])
        yield encode_tensor(raw, header.dtype, digest=header.digest, level="fast")
