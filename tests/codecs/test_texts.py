"""Short texts against the dictionary and against what they were before an edit."""

import json
import re
from pathlib import Path

import pytest
import xxhash
import zstandard
from blake3 import blake3
from frame_reference import DICTIONARY, decode_frame
from frame_surgery import reseal, with_field
from hypothesis import given, settings
from hypothesis import strategies as st

from weightvault.codecs.errors import CorruptFrame, FrameError, UnsupportedFrame, WrongBase
from weightvault.codecs.pipeline import LEVELS, decode_range, decode_tensor, encode_tensor
from weightvault.codecs.texts import DICTIONARY_MOST_BYTES, PATCH_MOST_BYTES

CONFIG = json.dumps(
    {
        "architectures": ["MistralForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 5120,
        "initializer_range": 0.02,
        "max_position_embeddings": 131072,
        "num_attention_heads": 40,
        "num_hidden_layers": 40,
        "rms_norm_eps": 1e-05,
        "torch_dtype": "bfloat16",
        "use_cache": True,
    },
    indent=2,
).encode()
LONG = b"\n".join(b'"word %d": %d,' % (i * i % 7919, i) for i in range(4000))
EDITED = LONG[:30_000] + b'"inserted": 1,' + LONG[30_000:50_000] + LONG[50_040:]
BODY_AT = {"zstd-dictionary": 64, "zstd-patch": 96}


def codec_of(frame: bytes) -> str:
    return {9: "zstd-dictionary", 10: "zstd-patch"}.get(frame[5], "another")


def common(data: bytes, base: bytes) -> list[tuple[int, int, int]] | None:
    return None if len(data) == len(base) else [(0, 0, min(len(data), len(base)))]


def patch(data: bytes, base: bytes, level: str = "default") -> bytes:
    return encode_tensor(data, "U8", base=base, rows=common(data, base), level=level)


def with_body(frame: bytes, body: bytes) -> bytes:
    """The frame with another body, and checksums that are right about it."""
    at = BODY_AT[codec_of(frame)]
    checksum = xxhash.xxh3_64_intdigest(body).to_bytes(8, "little")
    return reseal(frame[: at - 16] + checksum + bytes(8) + body, at - 8)


def test_a_config_takes_half_of_what_zstd_makes_of_it():
    frame = encode_tensor(CONFIG, "U8")
    assert codec_of(frame) == "zstd-dictionary"
    assert len(frame) - 64 < 0.5 * len(zstandard.ZstdCompressor(level=19).compress(CONFIG))
    assert bytes(decode_tensor(frame)) == decode_frame(frame) == CONFIG


@pytest.mark.parametrize("level", LEVELS)
def test_an_edit_takes_little_more_than_its_own_bytes(level: str):
    frame = patch(EDITED, LONG, level=level)
    assert codec_of(frame) == "zstd-patch"
    assert len(frame) < 200 < len(encode_tensor(EDITED, "U8", level=level)) / 20
    assert bytes(decode_tensor(frame, base=LONG)) == decode_frame(frame, LONG) == EDITED


def test_a_long_text_is_worth_more_effort_than_weights():
    frame = encode_tensor(LONG, "U8")
    assert frame[5] == 2
    assert len(frame) < 0.95 * len(encode_tensor(LONG, "U8", level="fast"))
    assert bytes(decode_tensor(frame)) == decode_frame(frame) == LONG


@given(
    data=st.binary(min_size=1, max_size=300),
    base=st.binary(min_size=1, max_size=300),
    codec=st.sampled_from(["zstd-dictionary", "zstd-patch", None]),
    level=st.sampled_from(LEVELS),
    spread=st.integers(1, 200),
)
@settings(deadline=None)
def test_any_bytes_come_back(data: bytes, base: bytes, codec: str | None, level: str, spread: int):
    data = (data + base) * spread
    frame = encode_tensor(data, "U8", base=base, rows=common(data, base), codec=codec, level=level)
    assert len(frame) <= len(data) + 64
    assert bytes(decode_tensor(frame, base=base)) == decode_frame(frame, base) == data
    middle = len(data) // 2
    assert bytes(decode_range(frame, middle, len(data), base=base)) == data[middle:]


def test_what_is_too_long_for_either_goes_without():
    for codec, most in (
        ("zstd-dictionary", DICTIONARY_MOST_BYTES),
        ("zstd-patch", PATCH_MOST_BYTES),
    ):
        for size, fits in ((most, True), (most + 1, False)):
            frame = encode_tensor(
                b"ab" * (size // 2) + b"a" * (size % 2), "U8", base=bytes(size), codec=codec
            )
            assert (codec_of(frame) == codec) == fits


def test_only_opaque_bytes_are_texts():
    assert codec_of(encode_tensor(CONFIG + bytes(-len(CONFIG) % 4), "F32")) == "another"


def test_a_base_of_nothing_in_common_is_not_named():
    noise = blake3(b"noise").digest(length=900)
    assert codec_of(patch(CONFIG, noise)) == "zstd-dictionary"


def test_released_dictionaries_never_change():
    page = (Path(__file__).parents[2] / "FORMAT.md").read_text()
    [named] = re.findall(r"\| 0 \| `codecs/dictionary-0.zdict` \|.*`([0-9a-f]{64})`", page)
    assert blake3(DICTIONARY.read_bytes()).hexdigest() == named


FRAMES = [(encode_tensor(CONFIG, "U8"), b""), (patch(EDITED, LONG), LONG)]


@pytest.mark.parametrize(("frame", "base"), FRAMES)
def test_altered_frames_raise_or_are_noticed(frame: bytes, base: bytes):
    for end in range(len(frame)):
        with pytest.raises(FrameError):
            decode_tensor(frame[:end], base=base)
    for at in range(len(frame)):
        changed = frame[:at] + bytes([frame[at] ^ 0x41]) + frame[at + 1 :]
        with pytest.raises(FrameError):
            decode_tensor(changed, base=base)


@pytest.mark.parametrize(("frame", "base"), FRAMES)
def test_bodies_that_lie_are_refused(frame: bytes, base: bytes):
    start = BODY_AT[codec_of(frame)]
    head = frame[start : start + 1] if not base else b""
    bodies = [
        head,
        head + b"not zstd at all",
        head + zstandard.compress(bytes(1 << 20)),
        frame[start:] + b"more",
        head + zstandard.ZstdCompressor(write_content_size=False).compress(CONFIG),
    ]
    for body in bodies:
        with pytest.raises(CorruptFrame):
            decode_tensor(with_body(frame, body), base=base)
    for body in [frame[start : start + i] + b"\xff" + frame[start + i + 1 :] for i in range(60)]:
        try:
            decode_tensor(with_body(frame, body), base=base)
        except FrameError:
            continue
        assert body == frame[start:]


def test_unknown_dictionaries_and_huge_texts_are_refused():
    frame, _ = FRAMES[0]
    with pytest.raises(UnsupportedFrame, match="dictionary 7"):
        decode_tensor(with_body(frame, b"\x07" + frame[65:]))
    for (other, base), most in zip(FRAMES, (DICTIONARY_MOST_BYTES, PATCH_MOST_BYTES), strict=True):
        with pytest.raises(CorruptFrame, match="allowed"):
            decode_tensor(with_field(other, 8, most + 1, 8), base=base)


def test_wrong_bases_are_refused():
    frame, base = FRAMES[1]
    for wrong in (b"", base[:-1], EDITED):
        with pytest.raises(WrongBase):
            decode_tensor(frame, base=wrong)
    with pytest.raises(CorruptFrame, match="nothing"):
        decode_tensor(frame, base=b"", base_digest=blake3(base).digest())


def test_a_patch_has_no_row_map():
    frame, base = FRAMES[1]
    rows = (1).to_bytes(4, "little") + bytes(16) + (5).to_bytes(8, "little")
    mapped = frame[:7] + b"\x03" + frame[8:80] + rows + frame[80:]
    with pytest.raises(CorruptFrame, match="row map in a patch"):
        decode_tensor(reseal(mapped, 96 - 8 + len(rows)), base=base)
