"""Packs from outside: only frames that decode to their digests get in."""

from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from models import make_weights, to_bf16, write_model

from weightvault.codecs.dtypes import find_dtype
from weightvault.codecs.frame import CODEC_IDS, parse_header
from weightvault.codecs.pipeline import encode_tensor
from weightvault.dedup.errors import BaseMissing, InvalidFile, InvalidFrame
from weightvault.dedup.formats.cutting.held import SHORT_BYTES
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.files.entries import ChunkUse
from weightvault.dedup.model.inputs import CHAIN_LENGTH
from weightvault.dedup.reading.chunk_reader import ChunkReader
from weightvault.dedup.repository.frame_reader import read_frames
from weightvault.dedup.repository.pack_writing import add_frame
from weightvault.dedup.transfer.push import push
from weightvault.store.packs import MAX_CHAIN, PackWriter

RAW = to_bf16(np.random.default_rng(0).normal(0, 1, 4096)).tobytes()


def write_pack(path: Path, frame: bytes, **changes: object) -> str:
    """Writes a pack of one frame, its index as the header says but for `changes`."""
    header = parse_header(frame)
    facts: dict[str, object] = {
        "digest": header.digest,
        "raw_bytes": header.raw_bytes,
        "codec": CODEC_IDS[header.codec],
        "dtype": find_dtype(header.dtype).id,
        "inputs": header.inputs,
        "depth": header.depth,
    }
    writer = PackWriter(path)
    writer.add(frame, **{**facts, **changes})  # pyright: ignore[reportArgumentType]
    return writer.finish()


def refuse(vault: LocalVault, path: Path, name: str, reason: str) -> None:
    with pytest.raises(InvalidFrame, match=reason):
        vault.add_pack(path, name)
    assert list(vault.backend.list("packs/")) == []
    assert vault.find_missing([blake3(RAW).digest()]) == {blake3(RAW).digest()}


def test_sound_pack_is_taken_in_once(local: LocalVault, tmp_path: Path):
    path = tmp_path / "p"
    name = write_pack(path, encode_tensor(RAW, "BF16"))
    assert local.add_pack(path, name) == 1
    assert local.add_pack(path, name) == 0
    assert local.find_missing([blake3(RAW).digest()]) == set()


def test_wrong_name(local: LocalVault, tmp_path: Path):
    write_pack(tmp_path / "p", encode_tensor(RAW, "BF16"))
    refuse(local, tmp_path / "p", "0" * 64, "does not hash")


def test_frame_of_another_digest(local: LocalVault, tmp_path: Path):
    """The frame and the index agree on a digest, but the bytes are others."""
    frame = encode_tensor(RAW, "BF16", digest=blake3(b"other").digest())
    name = write_pack(tmp_path / "p", frame)
    refuse(local, tmp_path / "p", name, "does not decode")


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": blake3(b"other").digest()},
        {"raw_bytes": 7},
        {"codec": 0},
        {"dtype": 0},
        {"inputs": [blake3(RAW).digest()]},
    ],
    ids=str,
)
def test_index_that_differs_from_the_frame(
    local: LocalVault, tmp_path: Path, changes: dict[str, object]
):
    name = write_pack(tmp_path / "p", encode_tensor(RAW, "BF16"), **changes)
    with pytest.raises(InvalidFrame):
        local.add_pack(tmp_path / "p", name)
    assert list(local.backend.list("packs/")) == []


def test_every_damaged_byte_is_refused(local: LocalVault, tmp_path: Path):
    path = tmp_path / "p"
    write_pack(path, encode_tensor(RAW, "BF16"))
    whole = path.read_bytes()
    for position in range(0, len(whole), 37):
        data = bytearray(whole)
        data[position] ^= 1
        path.write_bytes(data)
        # The name is that of the damaged bytes, as a hostile client would send them.
        refuse(local, path, blake3(data).hexdigest(), ".")


def test_truncated_pack(local: LocalVault, tmp_path: Path):
    path = tmp_path / "p"
    write_pack(path, encode_tensor(RAW, "BF16"))
    whole = path.read_bytes()
    for length in (0, 1, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refuse(local, path, blake3(whole[:length]).hexdigest(), "well-formed")


def test_delta_needs_its_base_in_the_vault(local: LocalVault, tmp_path: Path):
    near = np.frombuffer(RAW, np.uint16) ^ 1
    frame = encode_tensor(near.tobytes(), "BF16", base=RAW, codec="bitx")
    name = write_pack(tmp_path / "p", frame)
    refuse(local, tmp_path / "p", name, "not in this vault")
    base_name = write_pack(tmp_path / "base", encode_tensor(RAW, "BF16"))
    local.add_pack(tmp_path / "base", base_name)
    assert local.add_pack(tmp_path / "p", name) == 1


def chain_pack(path: Path, number: int, depth: int) -> str:
    """A pack of the delta of this number on the one before, which says that it is so deep."""
    path.unlink(missing_ok=True)
    raw, base = ((np.frombuffer(RAW, np.uint16) ^ i).tobytes() for i in (number, number - 1))
    return write_pack(path, encode_tensor(raw, "BF16", base=base, codec="bitx", depth=depth))


def test_a_delta_that_is_not_deeper_than_its_base_is_refused(local: LocalVault, tmp_path: Path):
    path = tmp_path / "p"
    local.add_pack(path, write_pack(path, encode_tensor(RAW, "BF16")))
    for number in range(1, MAX_CHAIN):
        local.add_pack(path, chain_pack(path, number, number))
        name = chain_pack(path, number + 1, number)
        with pytest.raises(InvalidFrame, match="needs too much"):
            local.add_made_pack(path, name)
    local.add_pack(path, chain_pack(path, MAX_CHAIN, MAX_CHAIN))
    name = chain_pack(path, MAX_CHAIN + 1, MAX_CHAIN)
    with pytest.raises(InvalidFrame, match="needs too much"):
        local.add_made_pack(path, name)
    with pytest.raises(BaseMissing, match="too long"):
        local.add_pack(path, name)
    last = (np.frombuffer(RAW, np.uint16) ^ MAX_CHAIN).tobytes()
    reader = ChunkReader(lambda digests: read_frames(local.backend, local.catalogue, digests))
    use = ChunkUse(blake3(last).digest(), 0, len(last), "BF16")
    assert list(reader.read([use])) == [last]
    assert local.check().problems == ()


def test_a_delta_from_outside_is_told_how_deep_it_is(local: LocalVault, tmp_path: Path):
    """Its base may have been re-encoded since it was read."""
    path = tmp_path / "p"
    local.add_pack(path, write_pack(path, encode_tensor(RAW, "BF16")))
    for number in range(1, CHAIN_LENGTH + 1):
        local.add_pack(path, chain_pack(path, number, 1))
    digest = blake3((np.frombuffer(RAW, np.uint16) ^ CHAIN_LENGTH).tobytes()).digest()
    assert local.catalogue.locate([digest])[digest].level == CHAIN_LENGTH
    assert local.check().problems == ()


def test_an_index_that_lies_about_a_chain_is_refused(local: LocalVault, tmp_path: Path):
    path = tmp_path / "p"
    local.add_pack(path, write_pack(path, encode_tensor(RAW, "BF16")))
    near = (np.frombuffer(RAW, np.uint16) ^ 1).tobytes()
    frame = encode_tensor(near, "BF16", base=RAW, codec="bitx", depth=2)
    path.unlink()
    name = write_pack(path, frame, depth=3)
    with pytest.raises(InvalidFrame, match="not what the index says"):
        local.add_pack(path, name)


def test_deltas_on_each_other_are_refused(local: LocalVault, tmp_path: Path):
    """A circle in one pack: neither base is in the vault before."""
    first, second = RAW, (np.frombuffer(RAW, np.uint16) ^ 1).tobytes()
    frames = [
        encode_tensor(first, "BF16", base=second, codec="bitx", depth=2),
        encode_tensor(second, "BF16", base=first, codec="bitx", depth=1),
    ]
    with PackWriter(tmp_path / "p") as writer:
        for frame in frames:
            add_frame(writer, frame)
        name = writer.finish()
    refuse(local, tmp_path / "p", name, "not in this vault")


def test_rows_of_a_longer_base_are_taken_in_and_read(local: LocalVault, tmp_path: Path):
    name = write_pack(tmp_path / "base", encode_tensor(RAW, "BF16"))
    local.add_pack(tmp_path / "base", name)
    half = len(RAW) // 2
    frame = encode_tensor(RAW[:half], "BF16", base=RAW, rows=[(0, 0, half)])
    assert parse_header(frame).base_digest is not None
    name = write_pack(tmp_path / "p", frame)
    assert local.add_pack(tmp_path / "p", name) == 1
    digest = blake3(RAW[:half]).digest()
    reader = ChunkReader(lambda digests: read_frames(local.backend, local.catalogue, digests))
    (raw,) = reader.read([ChunkUse(digest, 0, half, "BF16")])
    assert raw == RAW[:half]


def test_file_that_changes_between_hashing_and_encoding(
    local: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The digest is taken first; other bytes are not sent under it. A short file is read once."""
    model = write_model(tmp_path / "model", make_weights(1, {"w": (SHORT_BYTES,)}))
    changed = bytearray((model / "model.safetensors").read_bytes())
    changed[-1] ^= 1
    ask = local.find_missing

    def ask_and_change(digests):
        (model / "model.safetensors").write_bytes(changed)
        return ask(digests)

    monkeypatch.setattr(local, "find_missing", ask_and_change)
    with pytest.raises(InvalidFile, match=r"model\.safetensors changed while it was pushed"):
        push(local, model, "org/m")
    assert local.list_repos() == []
    assert list(local.backend.list("packs/")) == []
