"""Packs from outside: only frames that decode to their digests get in."""

from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from models import make_weights, to_bf16, write_model

from weightvault.codecs.dtypes import find_dtype
from weightvault.codecs.frame import CODEC_IDS, parse_header
from weightvault.codecs.pipeline import encode_tensor
from weightvault.dedup.errors import InvalidFile, InvalidFrame
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.files.entries import ChunkUse
from weightvault.dedup.reading.chunk_reader import ChunkReader
from weightvault.dedup.repository.frame_reader import read_frames
from weightvault.dedup.transfer.push import push
from weightvault.store.packs import PackWriter

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


def test_delta_on_a_delta_is_refused(local: LocalVault, tmp_path: Path):
    raws = [(np.frombuffer(RAW, np.uint16) ^ i).tobytes() for i in range(3)]
    first = encode_tensor(raws[0], "BF16")
    second = encode_tensor(raws[1], "BF16", base=raws[0], codec="bitx")
    third = encode_tensor(raws[2], "BF16", base=raws[1], codec="bitx")
    for frame in (first, second):
        name = write_pack(tmp_path / "p", frame)
        local.add_pack(tmp_path / "p", name)
        (tmp_path / "p").unlink()
    name = write_pack(tmp_path / "p", third)
    with pytest.raises(InvalidFrame, match="one deep"):
        local.add_pack(tmp_path / "p", name)


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
    """The digest is taken first; other bytes are not sent under it."""
    model = write_model(tmp_path / "model", make_weights(1))
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
