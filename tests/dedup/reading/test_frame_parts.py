"""Of a chunk that is read in part, only the blocks are read and decoded that it takes."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from damage import entries_of, flip_frame, objects
from models import safetensors_bytes, to_bf16
from vaults import CountingReads, open_local

from weightvault.codecs.blocks.parallel import BLOCK_BYTES
from weightvault.codecs.ranges import PIECE_BYTES
from weightvault.dedup.errors import Corrupt
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.reading.timed_codecs import DECODING
from weightvault.dedup.repository.frame_parts import FrameParts
from weightvault.dedup.transfer.push import push
from weightvault.store.catalogue.tables.rows import Location
from weightvault.store.packs import DELTA, DERIVED

MIB = 1 << 20
COUNT = 6 * MIB
SHAPE = (COUNT // 1024, 1024)


def model(words: np.ndarray) -> bytes:
    return safetensors_bytes({"w": ("BF16", SHAPE, words.tobytes())})


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    """Three files of one chunk of 12 MiB: encoded alone, against the first, and not at all."""
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 0.05, COUNT).astype(np.float32)
    tuned = weights + rng.normal(0, 1e-4, COUNT).astype(np.float32)
    noise = np.frombuffer(rng.bytes(2 * COUNT), np.uint16)
    return {
        "org/base": model(to_bf16(weights)),
        "org/tune": model(to_bf16(tuned)),
        "org/noise": model(noise),
    }


@pytest.fixture
def vault(tmp_path: Path, contents: dict[str, bytes]) -> Iterator[LocalVault]:
    """A vault with them, whose reads are counted."""
    opened = open_local(tmp_path / "vault")
    for repo, content in contents.items():
        folder = tmp_path / repo
        folder.mkdir(parents=True)
        (folder / "w.safetensors").write_bytes(content)
        push(opened, folder, repo)
    opened.close()
    counted = open_local(tmp_path / "vault", CountingReads)
    yield counted
    counted.close()


def read(vault: LocalVault, repo: str, start: int, stop: int) -> bytes:
    snapshot, entry = vault.stat_file(repo, "main", "w.safetensors")
    pieces = vault.serve_entry(entry, snapshot.manifest.chunk_bytes, start, stop)
    return b"".join(map(bytes, pieces))


def costs(vault: LocalVault, repo: str, start: int, stop: int) -> tuple[int, int]:
    """Reads a part; returns the bytes of packs that were read and the raw bytes decoded."""
    backend = vault.backend
    assert isinstance(backend, CountingReads)
    vault.stat_file(repo, "main", "w.safetensors")
    before = backend.bytes, DECODING.raw_bytes
    read(vault, repo, start, stop)
    return backend.bytes - before[0], DECODING.raw_bytes - before[1]


def longest_chunk(vault: LocalVault, repo: str) -> bytes:
    """The digest of a file's longest chunk."""
    entry = vault.resolve(repo).manifest.files[0]
    return max(entry.chunks(), key=lambda use: use.size).digest


def test_a_first_window_takes_one_block(vault: LocalVault, contents: dict[str, bytes]):
    received, decoded = costs(vault, "org/base", 0, MIB)
    assert received < BLOCK_BYTES
    assert decoded <= MIB
    assert read(vault, "org/base", 0, MIB) == contents["org/base"][:MIB]


def test_a_first_window_takes_one_block_of_the_base_too(
    vault: LocalVault, contents: dict[str, bytes]
):
    chunk = longest_chunk(vault, "org/tune")
    assert vault.catalogue.locate([chunk])[chunk].base is not None
    received, decoded = costs(vault, "org/tune", 0, MIB)
    assert received < 2 * BLOCK_BYTES
    assert decoded <= MIB + BLOCK_BYTES
    assert read(vault, "org/tune", 0, MIB) == contents["org/tune"][:MIB]


def test_a_base_at_hand_is_not_read_again(vault: LocalVault):
    read(vault, "org/tune", 0, 2 * COUNT)
    received, decoded = costs(vault, "org/tune", 0, MIB)
    assert received < BLOCK_BYTES // 2
    assert decoded <= MIB


def test_a_raw_frame_is_read_as_a_whole_once(vault: LocalVault, contents: dict[str, bytes]):
    whole, _ = costs(vault, "org/noise", 0, MIB)
    again, decoded = costs(vault, "org/noise", 2 * MIB, 3 * MIB)
    assert whole >= 2 * COUNT
    assert MIB <= again <= MIB + 2 * PIECE_BYTES
    assert decoded == MIB
    assert read(vault, "org/noise", MIB, 2 * MIB) == contents["org/noise"][MIB : 2 * MIB]


@pytest.mark.parametrize("repo", ["org/base", "org/tune", "org/noise"])
def test_whoever_reads_on_decodes_nothing_twice(vault: LocalVault, repo: str):
    """A download as a server makes it: a small window, then the rest with one read of the frame."""
    size = vault.stat_file(repo, "main", "w.safetensors")[1].size
    read(vault, repo, 0, MIB)
    _, decoded = costs(vault, repo, MIB, size)
    base = 2 * COUNT if repo == "org/tune" else 0
    assert decoded <= size - MIB + base


@pytest.mark.parametrize("repo", ["org/base", "org/tune", "org/noise"])
def test_any_part_is_what_stands_there(vault: LocalVault, contents: dict[str, bytes], repo: str):
    numbers, content = random.Random(5), contents[repo]
    for most in [1, 1000, MIB, 5 * MIB, 9 * MIB] * 4:
        start = numbers.randrange(len(content))
        stop = min(len(content), start + numbers.randrange(1, most + 1))
        assert read(vault, repo, start, stop) == content[start:stop]


def test_frames_that_moved_are_read_where_they_are(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
):
    """The first look finds a place that is gone."""
    locate, asked = vault.catalogue.locate, []

    def locate_late(digests: Sequence[bytes]) -> dict[bytes, Location]:
        asked.append(digests)
        places = locate(digests)
        if len(asked) > 1:
            return places
        return {digest: replace(place, pack="0" * 64) for digest, place in places.items()}

    monkeypatch.setattr(vault.catalogue, "locate", locate_late)
    parts = FrameParts(vault.backend, vault.catalogue)
    assert parts.fetch(longest_chunk(vault, "org/base"), 0, MIB).header.raw_bytes == 2 * COUNT
    assert len(asked) == 2


def test_damage_is_not_given_out(tmp_path: Path, vault: LocalVault, contents: dict[str, bytes]):
    for repo in contents:
        read(vault, repo, 0, MIB)
    for pack in objects(tmp_path, "packs"):
        for entry in entries_of(pack):
            if entry.raw_bytes > MIB:
                flip_frame(pack, entry)
    for repo in contents:
        content, found = contents[repo], 0
        for start in range(0, len(content), MIB):
            try:
                assert read(vault, repo, start, start + MIB) == content[start : start + MIB]
            except Corrupt:
                found += 1
        assert 1 <= found <= 6, repo


def test_of_what_a_copy_is_computed_from_parts_are_read(
    vault: LocalVault, contents: dict[str, bytes], tmp_path: Path
):
    words = np.frombuffer(contents["org/tune"][-2 * COUNT :], np.uint16).astype(np.uint32) << 16
    halves = words.view(np.float32).astype(np.float16)
    content = safetensors_bytes({"w": ("F16", SHAPE, halves.tobytes())})
    folder = tmp_path / "org/half"
    folder.mkdir()
    (folder / "w.safetensors").write_bytes(content)
    push(vault, folder, "org/half")
    places = vault.catalogue.locate(
        [longest_chunk(vault, repo) for repo in ("org/half", "org/tune")]
    )
    assert sorted(place.level for place in places.values()) == [DELTA, DERIVED]
    for start, stop in ((5 * MIB, 5 * MIB + 100), (len(content) - 7, len(content))):
        assert read(vault, "org/half", start, stop) == content[start:stop]
    # Of the copy, of the tune, and of the tune's base as many blocks as the range touches.
    read_bytes, decoded = costs(vault, "org/half", 9 * MIB, 9 * MIB + 100)
    assert read_bytes < 4 * BLOCK_BYTES
    assert decoded < 5 * BLOCK_BYTES
    assert read(vault, "org/half", 0, len(content)) == content
