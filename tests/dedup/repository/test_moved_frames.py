"""Readers beside those who code families anew."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from weightvault.codecs.pipeline import encode_tensor
from weightvault.dedup.errors import ChunksMissing, Corrupt
from weightvault.dedup.model.files.entries import ChunkUse
from weightvault.dedup.reading.chunk_reader import ChunkReader
from weightvault.store.catalogue.catalogue import open_catalogue


def family() -> tuple[list[bytes], list[bytes]]:
    """Raw bytes of three relatives, and their digests."""
    rng = np.random.default_rng(1)
    words = rng.integers(0, 1 << 12, 4096).astype(np.uint16)
    raws = [(words + i * (rng.random(4096) < 0.01)).astype(np.uint16).tobytes() for i in range(3)]
    return raws, [blake3(raw).digest() for raw in raws]


def delta(raw: bytes, base: bytes) -> bytes:
    frame = encode_tensor(raw, "BF16", base=base, base_digest=blake3(base).digest())
    assert len(frame) < len(encode_tensor(raw, "BF16"))
    return frame


@pytest.mark.parametrize("refused", [False, True])
def test_a_family_coded_anew_between_two_reads_is_read_again(refused: bool):
    (a, b, c), digests = family()
    before = [delta(a, b), encode_tensor(b, "BF16"), delta(c, b)]
    after = [delta(a, c), delta(b, c), encode_tensor(c, "BF16")]
    asked: list[list[bytes]] = []

    def fetch(wanted: Sequence[bytes]) -> Iterator[bytes]:
        asked.append(list(wanted))
        # The first read sees the old frames; then the second becomes a delta on the third.
        frames = dict(zip(digests, before if len(asked) == 1 else after, strict=True))
        if refused and len(asked) == 2:
            raise ChunksMissing("no commit of that revision needs it any more")
        return iter([frames[digest] for digest in wanted])

    reader = ChunkReader(fetch)
    assert list(reader.read([ChunkUse(digests[0], 0, len(a), "BF16")])) == [a]
    assert asked == [[digests[0]], [digests[1]], [digests[0]], [digests[2]]]


def test_deltas_on_what_is_not_below_them_are_damage():
    (a, b, c), digests = family()
    frames = dict(zip(digests, [delta(a, b), delta(b, c), encode_tensor(c, "BF16")], strict=True))
    reader = ChunkReader(lambda wanted: (frames[digest] for digest in wanted))
    with pytest.raises(Corrupt, match="has level 1 where it must be below 1"):
        list(reader.read([ChunkUse(digests[0], 0, len(a), "BF16")]))


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_servers_tie_their_catalogue_to_a_store_at_once(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
):
    url = f"sqlite:///{tmp_path / 'c.sqlite'}"
    if database == "postgresql":
        url = request.getfixturevalue("postgres_url")
    catalogue = open_catalogue(url)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(catalogue.set_store_id, ["ab" * 16] * 40))
    assert catalogue.store_id() == "ab" * 16
    catalogue.close()
